"""Tasks whose rows stand in memory, and are told of in the order that the real ones are: the row, then the event."""

from dataclasses import replace
from typing import Any

from core.clock import now_ms
from core.errors import NotFound
from core.ids import new_id
from services.tasks.event_tokens import EventTokens
from services.tasks.events import Ending, TaskEvent, TaskEvents, TaskSnapshot
from services.tasks.streams import TaskStreams
from tests.support.service import RunningService

LOOK_SECONDS = 0.5
HEARTBEAT_SECONDS = 0.2


class WatchedTasks:
    """Takes the place of a service's tasks."""

    def __init__(
        self,
        service: RunningService,
        *,
        look_seconds: float = LOOK_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        container = service.container
        self.events = TaskEvents(container.redis)
        self._rows: dict[str, tuple[str, TaskSnapshot]] = {}
        streams = TaskStreams(
            self.events, container.channels, self, container.metrics,
            look_seconds=look_seconds, heartbeat_seconds=heartbeat_seconds,
        )  # fmt: skip
        tokens = EventTokens(container.event_tokens.signer, self)
        service.app.state.container = replace(container, task_streams=streams, event_tokens=tokens)

    async def snapshot(self, user_id: str, task_id: str) -> TaskSnapshot:
        owner, snapshot = self._rows.get(task_id, ("", None))
        if snapshot is None or owner != user_id:
            raise NotFound(task_id)
        return snapshot

    async def owner(self, task_id: str) -> str:
        if task_id not in self._rows:
            raise NotFound(task_id)
        return self._rows[task_id][0]

    def add(self, user_id: str) -> str:
        """A task that waits for its turn."""
        task_id = new_id("task")
        self._rows[task_id] = (user_id, TaskSnapshot("pending", 1, 0, "", now_ms()))
        return task_id

    async def start(self, task_id: str) -> None:
        self.set(task_id, status="processing")
        await self.events.emit(task_id, TaskEvent("started", 0))

    async def progress(self, task_id: str, percent: int, **data: str) -> None:
        self.set(task_id, percent=percent)
        await self.events.emit(task_id, TaskEvent("progress", percent, data=data))

    async def end(self, task_id: str, status: Ending = "completed") -> int:
        self.set(task_id, status=status)
        return await self.tell_end(task_id)

    async def tell_end(self, task_id: str) -> int:
        _, snapshot = self._rows[task_id]
        event = snapshot.event()
        assert event is not None
        return await self.events.end_once(task_id, snapshot.round, event)

    def retry(self, task_id: str) -> None:
        _, snapshot = self._rows[task_id]
        self.set(task_id, status="pending", round=snapshot.round + 1, percent=0)

    def set(self, task_id: str, **changes: Any) -> None:
        """The row alone, as a process leaves it that dies before it tells of it."""
        owner, snapshot = self._rows[task_id]
        self._rows[task_id] = (owner, replace(snapshot, changed_at=now_ms(), **changes))

    def forget(self, task_id: str) -> None:
        del self._rows[task_id]
