"""Leaving: an account that is deleted, or a guest who has become somebody, and all that goes with them.

Somebody leaves in one transaction, which wipes who they were; from then on they cannot sign in. What they made goes, or
is another's, at once. Calls that were under way then may still deliver: their row stands, empty, until those are over,
and the worker comes back to it. A process that dies anywhere in between leaves the rest to the worker.
"""

from collections.abc import Awaitable, Callable, Sequence

from core.clients.database import Database
from core.clock import Milliseconds, now_ms
from core.errors import Unauthorized
from core.logging import get_logger
from services.accounts.sessions import SessionStore
from services.accounts.users import Departure, departures, remove_departed, set_left
from services.history.service import HistoryService

BATCH = 50

Forget = Callable[[str], Awaitable[None]]

log = get_logger(__name__)


class Departures:
    """`forgetters`: what other domains keep of a user by id; called once nothing of theirs is under way any more.

    `under_way_seconds`: how long a call may go on after its caller has left.
    """

    def __init__(
        self,
        sessions: SessionStore,
        database: Database,
        history: HistoryService,
        forgetters: Sequence[Forget],
        *,
        under_way_seconds: float,
    ) -> None:
        self._sessions = sessions
        self._database = database
        self._history = history
        self._forgetters = tuple(forgetters)
        self._under_way_ms = int(under_way_seconds * 1000)

    async def leave(self, user_id: str) -> None:
        """Delete an account with everything of it. Raises Unauthorized when it is gone already."""
        now = now_ms()
        if not await self._database.write(lambda connection: set_left(connection, user_id, now)):
            raise Unauthorized("account_gone")
        log.info("account deleted by its owner", user_id=user_id)
        await self._settle(Departure(user_id, now, None))

    async def merge(self, guest_id: str, user_id: str) -> None:
        """What a guest made is this user's from now on; the guest is gone. Does nothing for one who is gone already."""
        now = now_ms()
        left = await self._database.write(
            lambda connection: set_left(connection, guest_id, now, merged_into=user_id)
        )
        if left:
            await self._settle(Departure(guest_id, now, user_id))

    async def finish(self) -> int:
        """Go on with everybody who has left, and forget those of whom nothing is under way. Answers how many."""
        found = await self._database.read(lambda connection: departures(connection, BATCH))
        for departure in found:
            await self._settle(departure)
            if self._is_over(departure):
                await self._forget(departure.user_id)
        return len(found)

    async def _settle(self, departure: Departure) -> None:
        await self._sessions.remove_all(departure.user_id)
        if departure.merged_into is None:
            await self._history.purge_user(departure.user_id)
        else:
            await self._history.adopt(departure.user_id, departure.merged_into)

    def _is_over(self, departure: Departure) -> bool:
        passed: Milliseconds = now_ms() - departure.left_at
        return passed > self._under_way_ms

    async def _forget(self, user_id: str) -> None:
        for forget in self._forgetters:
            await forget(user_id)
        await self._database.write(lambda connection: remove_departed(connection, user_id))
