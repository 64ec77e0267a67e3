"""What becomes of chats whose time is over, or whose owner has left."""

from core.clock import DAY_MS, now_ms
from core.errors import AppError
from core.logging import get_logger
from core.metrics import Metrics
from services.chat.lives import ChatLives
from services.chat.objects import ChatObjects
from services.chat.store import ChatStore

# So old must be what is taken for left over: a turn under way is younger, and so is what a Redis that was away knows.
LEFT_OVER_MS = DAY_MS
PAGE = 200

log = get_logger(__name__)


class ChatDeparture:
    def __init__(self, store: ChatStore, objects: ChatObjects, lives: ChatLives, metrics: Metrics) -> None:
        self._store = store
        self._objects = objects
        self._lives = lives
        self._metrics = metrics

    async def leave(self, user_id: str, heir: str | None) -> None:
        """Chats of somebody who has left are their heir's; without one they are gone. To be called again for what
        was still under way. Raises redis.exceptions.RedisError.
        """
        for chat_id in await self._store.ids_of(user_id):
            if heir is not None:
                await self._store.hand_on(chat_id, user_id, heir, now_ms(), self._lives.of_accounts)
            else:
                await self._store.remove(chat_id, user_id)
                await self._objects.remove_chat(chat_id)

    async def clear(self) -> int:
        """Remove what lies in storage of chats that have ended and of turns that came to nothing; answers how many.

        What storage has against it is for the next time. Raises redis.exceptions.RedisError.
        """
        removed, page = 0, list[tuple[str, str, str]]()
        try:
            async for found in self._objects.stored_before(now_ms() - LEFT_OVER_MS):
                page.append(found)
                if len(page) == PAGE:
                    removed += await self._clear(page)
                    page = []
            removed += await self._clear(page)
        except AppError as error:
            log.warning("objects of chats are removed later", reason=str(error))
        return removed

    async def _clear(self, page: list[tuple[str, str, str]]) -> int:
        chat_ids = list({chat_id for chat_id, _, _ in page})
        known = {
            (chat_id, turn.id)
            for chat_id in await self._store.existing(chat_ids)
            for turn in await self._store.turns(chat_id)
        }
        doomed = [key for chat_id, turn_id, key in page if (chat_id, turn_id) not in known]
        if doomed:
            await self._objects.discard(doomed)
            self._metrics.swept.labels("chat_left_over").inc(len(doomed))
            log.info("objects of ended chats removed", count=len(doomed))
        return len(doomed)
