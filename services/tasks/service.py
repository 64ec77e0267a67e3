"""Tasks as their users know them: made, looked at, cancelled, tried again, forgotten."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, replace

from pydantic import SecretStr
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from core.clients.database import Database
from core.clock import DAY_MS, Milliseconds, now_ms
from core.errors import InternalError, NotFound
from core.ids import derived_id, new_id
from core.paging import Page
from core.security import Vault
from core.setting_groups import QuotaSettings, ServerSettings, TaskSettings
from services.idempotency import IdempotencyKey, IdempotencyService
from services.quota.models import Reservation
from services.tasks import store, transitions
from services.tasks.ends import TaskEnds
from services.tasks.errors import WrongState
from services.tasks.events import TaskEvents, TaskSnapshot
from services.tasks.models import Ending, Task, TaskFilter, TaskRequest
from services.tasks.queue import TaskQueue
from services.tasks.runner import vault_context
from services.webhooks.service import WebhookService

# How long a caller who cancels waits for the worker, which stops within a second.
CANCEL_SECONDS = 3.0
LOOK_SECONDS = 0.05
LEAVING_PAGE = 200

# Whom an account was as a guest, as far as something of theirs still goes on: it is the account's by then.
Forebears = Callable[[str], Awaitable[Collection[str]]]


@dataclass(frozen=True)
class Claim:
    """The id that a task is to have, and the task that has it already."""

    task_id: str
    made: Task | None = None


class TaskService:
    """The owner of tasks and their state, together with TaskEnds, TaskRunner and TaskSweep on the workers."""

    def __init__(
        self,
        database: Database,
        queue: TaskQueue,
        events: TaskEvents,
        ends: TaskEnds,
        idempotency: IdempotencyService,
        vault: Vault,
        forebears: Forebears,
        settings: TaskSettings,
        server: ServerSettings,
        quota: QuotaSettings,
    ) -> None:
        self._database = database
        self._queue = queue
        self._events = events
        self._ends = ends
        self._idempotency = idempotency
        self._vault = vault
        self._forebears = forebears
        self._share = settings.max_tasks_per_user
        self._side_by_side = settings.batch_concurrency
        self._item_ms = int(server.request_timeout_seconds * 1000)
        self._grace_ms = int(quota.reservation_grace_seconds * 1000)

    @contextlib.asynccontextmanager
    async def claim(self, key: IdempotencyKey | None) -> AsyncIterator[Claim]:
        """The id of a task that is about to be made; under an Idempotency-Key what was made before is found.

        Raises Conflict, IdempotencyMismatch, and NotFound for one that was made and forgotten since.
        """
        if key is None:
            yield Claim(new_id("task"))
            return
        async with self._idempotency.claim(key) as call:
            task_id = _task_id(call.id)
            if call.state == "new":
                # A claim that is new may be so only because Redis was emptied.
                made = [await self._find(_task_id(candidate)) for candidate in self._idempotency.candidates(key)]
                yield Claim(task_id, next((task for task in made if task is not None and _is_recent(task)), None))
                return
            task = await self._find(task_id)
            if task is None and call.state == "done":
                raise NotFound(f"task {task_id}")
            yield Claim(task_id, task)

    async def create(self, request: TaskRequest) -> Task:
        """Enter a task, which runs as soon as it is its user's turn.

        The one that is there already if its id is. Raises DependencyUnavailable, and then it may stand all the same.
        """
        task = self._new(request)
        try:
            task = await self._database.write(lambda connection: transitions.create(connection, task, self._share))
        except IntegrityError as error:
            found = await self._find(task.id)
            if found is None:
                raise InternalError(f"task {task.id} refused: {error.orig}") from None
            return found
        await self._queue.enqueue([task])
        return task

    async def get(self, user_id: str, task_id: str) -> Task:
        """Raises NotFound, also for another's."""
        task = await self._find(task_id)
        if task is None or not (task.user_id == user_id or task.user_id in await self._forebears(user_id)):
            raise NotFound(f"task {task_id}")
        return task

    async def owner(self, task_id: str) -> str:
        """Raises NotFound."""
        task = await self._find(task_id)
        if task is None:
            raise NotFound(f"task {task_id}")
        return task.user_id

    async def snapshot(self, user_id: str, task_id: str) -> TaskSnapshot:
        return (await self.get(user_id, task_id)).snapshot()

    async def page(self, user_id: str, where: TaskFilter, limit: int, offset: int) -> Page[Task]:
        mine = replace(where, user_ids=(user_id, *await self._forebears(user_id)))
        items, total = await self._database.read(lambda connection: store.page(connection, mine, limit, offset))
        return Page(items, total, limit, offset)

    async def cancel(self, user_id: str, task_id: str) -> Task:
        """Stop a task; answers it as it then stands: within a few seconds cancelled, with what it had delivered kept.

        Raises NotFound, or WrongState when it has ended otherwise.
        """
        task = await self.get(user_id, task_id)
        if not task.has_ended:
            await self._ask_to_cancel(task)
            task = await self._until_ended(user_id, task_id)
        if task.has_ended and task.status != "cancelled":
            raise WrongState(task.status)
        return task

    async def retry(self, task: Task, reservation: Reservation | None, own_key: SecretStr | None) -> Task:
        """A new round of a task that was made ready for it by its kind. Raises WrongState."""
        now = now_ms()
        sealed = self._sealed(task.id, own_key)
        again = await self._database.write(
            lambda connection: transitions.retry(connection, task, reservation, sealed, now, self._share)
        )
        if again is None:
            raise WrongState((await self.get(task.user_id, task.id)).status)
        await self._queue.enqueue([again])
        return again

    async def ended(self, user_id: str, task_id: str) -> Task:
        """A task of which nothing is under way any more. Raises NotFound, or WrongState for one that goes on."""
        task = await self.get(user_id, task_id)
        if not task.has_ended:
            raise WrongState(task.status)
        if task.closed_at is None:
            await self._ends.close(task)
            task = await self.get(user_id, task_id)
        if task.user_id != user_id and task.closed_at is not None:
            forebear = task.user_id
            await self._database.write(lambda connection: _hand_over(connection, forebear, user_id))
            task = await self.get(user_id, task_id)
        return task

    async def forget(self, user_id: str, task_id: str) -> None:
        """Remove a task that has ended; its images stay. Raises as `ended`."""
        task = await self.ended(user_id, task_id)
        await self._ends.remove_references(task)
        gone = await self._database.write(lambda connection: _forget(connection, user_id, task_id))
        if not gone:
            raise WrongState((await self.get(user_id, task_id)).status)
        await self._events.delete(task_id)

    async def leave(self, user_id: str, heir: str | None) -> bool:
        """Of somebody who has left: what has ended is their heir's; without one it is forgotten, and what goes on is
        cancelled. Answers whether nothing is left; to be called again until then.
        """
        some = await self._database.read(
            lambda connection: store.find(connection, store.tasks.c.user_id == user_id, LEAVING_PAGE)
        )
        for task in some:
            if task.has_ended and task.closed_at is None:
                await self._ends.close(task)
            elif task.has_ended and heir is None:
                await self.forget(user_id, task.id)
            elif not task.has_ended and heir is None:
                await self._ask_to_cancel(task)
        if heir is not None:
            await self._database.write(lambda connection: _hand_over(connection, user_id, heir))
        return not await self._database.read(lambda connection: store.remain(connection, user_id))

    async def closed_among(self, task_ids: Collection[str]) -> dict[str, bool]:
        """Those of these tasks that there are, whosever they are, and whether all is over with them."""
        return await self._database.read(lambda connection: store.closed_among(connection, task_ids))

    async def oldest_open(self) -> Milliseconds | None:
        """When the oldest of all tasks was made that may still store or remove something."""
        return await self._database.read(store.oldest_open)

    def _new(self, request: TaskRequest) -> Task:
        now, webhook = now_ms(), request.webhook
        rounds = math.ceil(request.total / self._side_by_side)
        return Task(
            id=request.task_id,
            user_id=request.user_id,
            kind=request.kind,
            status="pending",
            params=request.params,
            results=(),
            total=request.total,
            completed=0,
            progress=0,
            error=None,
            client_job_id=request.client_job_id,
            key_id=request.key_id,
            own_key=self._sealed(request.task_id, request.own_key),
            reservation=request.reservation,
            reference_count=request.reference_count,
            round=1,
            attempts=0,
            deaths=0,
            worker=None,
            lease_until=None,
            cancel_requested_at=None,
            queued_at=None,
            time_limit_ms=self._item_ms * rounds + self._grace_ms,
            callback_url=None if webhook is None else webhook.url,
            webhook_secret=None if webhook is None else self._sealed(request.task_id, webhook.secret),
            created_at=now,
            started_at=None,
            completed_at=None,
            closed_at=None,
            expires_at=request.expires_at,
        )

    def _sealed(self, task_id: str, secret: SecretStr | None) -> str | None:
        return None if secret is None else self._vault.seal(secret, vault_context(task_id))

    async def _ask_to_cancel(self, task: Task) -> None:
        """At once when it waits; one that runs, by its worker."""
        if task.status == "pending":
            made = await self._ends.broken_off(task, task.results) if task.attempts else task.results
            if await self._ends.end(task, Ending("cancelled", made)) is not None:
                return
        now = now_ms()
        if await self._database.write(lambda connection: transitions.request_cancel(connection, task.id, now)):
            await self._queue.cancel()

    async def _find(self, task_id: str) -> Task | None:
        return await self._database.read(lambda connection: store.get_task(connection, task_id))

    async def _until_ended(self, user_id: str, task_id: str) -> Task:
        deadline = asyncio.get_running_loop().time() + CANCEL_SECONDS
        while not (task := await self.get(user_id, task_id)).has_ended:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(LOOK_SECONDS)
        return task


def _forget(connection: Connection, user_id: str, task_id: str) -> bool:
    """With its webhooks. False: there is no such task of which nothing is to be done any more."""
    gone = store.delete_closed(connection, user_id, task_id)
    if gone:
        WebhookService.forget(connection, task_id)
    return gone


def _hand_over(connection: Connection, user_id: str, heir: str) -> None:
    store.hand_over(connection, user_id, heir)
    WebhookService.hand_over(connection, user_id, heir)


def _task_id(call_id: str) -> str:
    return derived_id("task", call_id, 0)


def _is_recent(task: Task) -> bool:
    return task.created_at > now_ms() - DAY_MS
