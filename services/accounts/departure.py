"""Leaving: an account that is deleted, or a guest who has become somebody, and all that goes with them.

Somebody leaves in one transaction, which wipes who they were; from then on they cannot sign in. What they made goes, or
is another's, at once. Calls that were under way then may still deliver: their row stands, empty, until those are over,
and the worker comes back to it. A process that dies anywhere in between leaves the rest to the worker.
"""

from collections.abc import Awaitable, Callable, Sequence

from redis.exceptions import RedisError
from sqlalchemy import Connection

from core.clients.database import Database
from core.clock import Milliseconds, now_ms
from core.errors import AppError, Unauthorized
from core.logging import get_logger
from services.accounts.service_key_rows import remove_keys
from services.accounts.sessions import SessionStore
from services.accounts.users import Departure, departures, get_user, remove_departed, set_left
from services.chat.departure import ChatDeparture
from services.history.service import HistoryService
from services.quota.service import QuotaService
from services.tasks.service import TaskService

Forget = Callable[[str], Awaitable[None]]
Inherit = Callable[[str, str], Awaitable[None]]

log = get_logger(__name__)


class Departures:
    """`forgetters`: what other domains keep of a user by id; called once nothing of theirs is under way any more.
    `inheritances`: what of it a guest's heir has from then on, called with both ids, more than once.

    `under_way_seconds`: how long a call may go on after its caller has left, were Redis to lose its reservation.
    """

    def __init__(
        self,
        sessions: SessionStore,
        database: Database,
        history: HistoryService,
        quota: QuotaService,
        tasks: TaskService,
        chats: ChatDeparture,
        forgetters: Sequence[Forget],
        inheritances: Sequence[Inherit],
        *,
        under_way_seconds: float,
    ) -> None:
        self._sessions = sessions
        self._database = database
        self._history = history
        self._quota = quota
        self._tasks = tasks
        self._chats = chats
        self._forgetters = tuple(forgetters)
        self._inheritances = tuple(inheritances)
        self._under_way_ms = int(under_way_seconds * 1000)

    async def leave(self, user_id: str) -> None:
        """Delete an account with everything of it. Raises Unauthorized when it is gone already."""
        now = now_ms()
        if not await self._database.write(lambda connection: _leave(connection, user_id, now)):
            raise Unauthorized("account_gone")
        log.info("account deleted by its owner", user_id=user_id)
        await self._try_to_settle(Departure(user_id, now, None))

    async def merge(self, guest_id: str, user_id: str) -> None:
        """What a guest made is this user's from now on; the guest is gone. Does nothing for one who is gone already."""
        now = now_ms()
        left = await self._database.write(lambda connection: set_left(connection, guest_id, now, merged_into=user_id))
        if left:
            await self._try_to_settle(Departure(guest_id, now, user_id))

    async def finish(self) -> int:
        """Go on with everybody who has left, and forget those of whom nothing is under way. Answers how many.

        One who cannot be dealt with now waits for the next time and does not keep the others from theirs.
        """
        found = await self._database.read(departures)
        for departure in found:
            try:
                await self._settle(departure)
                if await self._is_over(departure):
                    await self._forget(departure)
            except (AppError, RedisError) as error:
                log.warning("departure not finished", user_id=departure.user_id, reason=str(error))
        return len(found)

    async def _try_to_settle(self, departure: Departure) -> None:
        """At once, if it can be: they have left by now, and the worker does what fails here."""
        try:
            await self._settle(departure)
        except (AppError, RedisError) as error:
            log.warning("departure left to the worker", user_id=departure.user_id, reason=str(error))

    async def _settle(self, departure: Departure) -> None:
        await self._sessions.remove_all(departure.user_id)
        heir = await self._heir(departure)
        await self._tasks.leave(departure.user_id, heir)
        if heir is None:
            await self._history.purge_user(departure.user_id)
        else:
            await self._history.adopt(departure.user_id, heir, await self._folder_of(heir))
            for inherit in self._inheritances:
                await inherit(departure.user_id, heir)
        await self._chats.leave(departure.user_id, heir)

    async def _heir(self, departure: Departure) -> str | None:
        """Who keeps what was made: nobody, when they have left as well."""
        user_id = departure.merged_into
        if user_id is None:
            return None
        user = await self._database.read(lambda connection: get_user(connection, user_id))
        return None if user is None else user_id

    async def _folder_of(self, user_id: str) -> str | None:
        """None for one who has left since."""
        user = await self._database.read(lambda connection: get_user(connection, user_id))
        return None if user is None else user.folder_id

    async def _is_over(self, departure: Departure) -> bool:
        passed: Milliseconds = now_ms() - departure.left_at
        # The sweep indexes what a dead call has left under its reservation, however late it comes to it.
        if passed <= self._under_way_ms or await self._quota.is_under_way(departure.user_id):
            return False
        # A task may go on for longer than any call.
        return await self._tasks.leave(departure.user_id, await self._heir(departure))

    async def _forget(self, departure: Departure) -> None:
        # Once more, for what came between the first look and the end of the last call.
        await self._settle(departure)
        for forget in self._forgetters:
            await forget(departure.user_id)
        await self._database.write(lambda connection: remove_departed(connection, departure.user_id))
        log.info("nothing is left of somebody who has left", user_id=departure.user_id)


def _leave(connection: Connection, user_id: str, now: Milliseconds) -> bool:
    """Programs are shut out with their owner. The user's row comes first: who adds a key waits for it."""
    left = set_left(connection, user_id, now)
    remove_keys(connection, user_id)
    return left
