"""Chats: beginning one, reading it, ending it."""

from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from core.clients.lease import LEASE_SECONDS
from core.clients.redis import RedisKey
from core.clock import now_ms
from core.errors import NotFound
from core.ids import derived_id, new_id
from core.logging import get_logger
from core.paging import Page
from services.accounts.models import Caller
from services.chat.errors import TooManyChats
from services.chat.lives import ChatLives
from services.chat.models import MAX_CHATS, Begun, Chat, Conversation, Turn
from services.chat.objects import ChatObjects
from services.chat.store import ChatGone, ChatMoved, ChatStore
from services.chat.titles import title_of
from services.generation.drafts import image_id_of
from services.history.models import Image
from services.history.service import HistoryService
from services.idempotency import IdempotencyKey, IdempotencyService

LOCK = RedisKey("lock:chat:{session_id}", "one turn at a time; renewed while it goes on", LEASE_SECONDS)

Forebears = Callable[[str], Awaitable[frozenset[str]]]

log = get_logger(__name__)


class ChatService:
    def __init__(
        self,
        redis: Redis,
        store: ChatStore,
        objects: ChatObjects,
        lives: ChatLives,
        history: HistoryService,
        idempotency: IdempotencyService,
        forebears: Forebears,
    ) -> None:
        self._redis = redis
        self._store = store
        self._objects = objects
        self._lives = lives
        self._history = history
        self._idempotency = idempotency
        self._forebears = forebears

    async def create(
        self, caller: Caller, aspect_ratio: str, title: str | None, key: IdempotencyKey | None
    ) -> tuple[Chat, bool]:
        """A chat, and whether it was made by an earlier request with this key. Raises TooManyChats."""
        if key is None:
            return await self._created(caller, new_id("chat"), aspect_ratio, title), False
        async with self._idempotency.claim(key) as call:
            chat_id = derived_id("chat", call.id, 0)
            if call.state == "done":
                return await self.get(caller, chat_id), True
            return await self._created(caller, chat_id, aspect_ratio, title), False

    async def page(self, caller: Caller, limit: int, offset: int) -> tuple[Page[Chat], dict[str, Image]]:
        """The caller's chats, the latest first, and the images of their previews that are there, by id."""
        page = await self._store.page(caller.user_id, now_ms(), limit, offset)
        ids = [chat.preview_image_id for chat in page.items if chat.preview_image_id is not None]
        return page, await self._images(ids, caller.user_id)

    async def get(self, caller: Caller, chat_id: str) -> Chat:
        """Raises NotFound, also for another's."""
        chat = await self._store.get(chat_id)
        if chat is not None and chat.user_id != caller.user_id:
            # Theirs from when they were a guest, and about to be handed on.
            chat = chat if chat.user_id in await self._forebears(caller.user_id) else None
        if chat is None:
            raise NotFound(f"chat {chat_id}")
        return chat

    async def read(self, caller: Caller, chat_id: str) -> Conversation:
        """A chat with its turns. Raises NotFound."""
        chat = await self.get(caller, chat_id)
        if chat.begun is None or await self._redis.exists(LOCK(session_id=chat_id)):
            return await self._whole(caller, chat)
        return await self.taken_up(caller, chat_id)

    async def delete(self, caller: Caller, chat_id: str) -> None:
        """Its images stay in the history; those that came with its messages go. Raises NotFound."""
        chat = await self.get(caller, chat_id)
        if not await self._store.remove(chat_id, chat.user_id):
            raise NotFound(f"chat {chat_id}")
        await self._objects.remove_chat(chat_id)

    async def taken_up(self, caller: Caller, chat_id: str) -> Conversation:
        """A chat with its turns, as nobody is at work on one: what a process that died has left joins them first.

        Raises NotFound.
        """
        chat = await self.get(caller, chat_id)
        if chat.begun is not None:
            chat = await self._gone_on_with(caller, chat, chat.begun)
        return await self._whole(caller, chat)

    async def append(self, caller: Caller, chat: Chat, turn: Turn) -> None:
        """Raises ChatMoved, or NotFound when the chat was deleted meanwhile."""
        try:
            await self._store.append(chat, turn, title_of(turn.prompt), self._lives.of(caller))
        except ChatGone as error:
            raise NotFound(f"chat {chat.id}") from error

    async def _created(self, caller: Caller, chat_id: str, aspect_ratio: str, title: str | None) -> Chat:
        now = now_ms()
        chat = Chat(chat_id, caller.user_id, now, aspect_ratio, title)
        if not await self._store.create(chat, now, self._lives.of(caller), MAX_CHATS):
            raise TooManyChats(MAX_CHATS)
        return chat

    async def _gone_on_with(self, caller: Caller, chat: Chat, begun: Begun) -> Chat:
        """A turn whose process died joins the chat once its image is in the history; what its parts were to be given
        back as died with the process.
        """
        image_id = image_id_of(begun.call_id)
        image = (await self._images([image_id], caller.user_id)).get(image_id)
        if image is None:
            return chat
        try:
            await self.append(caller, chat, Turn.of(begun, image, (), image.created_at))
        except ChatMoved:
            log.info("somebody else has gone on with the turn", chat_id=chat.id, image_id=image_id)
        return await self.get(caller, chat.id)

    async def _whole(self, caller: Caller, chat: Chat) -> Conversation:
        turns = await self._store.turns(chat.id)
        images = await self._images([turn.image_id for turn in turns], caller.user_id)
        return Conversation(chat, turns, images)

    async def _images(self, image_ids: list[str], user_id: str) -> dict[str, Image]:
        """Those that are still in the history, of the caller or of a guest that they have been."""
        found = {image.id: image async for image in self._history.iterate_ids(user_id, image_ids)}
        missing = [image_id for image_id in image_ids if image_id not in found]
        if missing:
            for forebear in await self._forebears(user_id):
                found |= {image.id: image async for image in self._history.iterate_ids(forebear, missing)}
        return found
