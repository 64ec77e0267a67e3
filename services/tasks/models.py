"""The words of tasks: one row each, the results of its items, what is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from core.clock import Milliseconds
from core.errors import AppError, JsonValue
from services.quota.models import Reservation
from services.tasks.events import ENDINGS, TaskEvent, TaskSnapshot, TaskStatus
from services.webhooks.models import WebhookTarget


@dataclass(frozen=True)
class TaskError:
    """An error of an item or of a task as it is kept: the words are chosen when it is shown."""

    code: str
    type: str
    details: Mapping[str, JsonValue]

    @classmethod
    def of(cls, error: AppError) -> "TaskError":
        return cls(error.code, error.type, error.details)


@dataclass(frozen=True)
class ItemResult:
    """What became of the item at `index`: `data` of one that is done, else why it is not."""

    index: int
    data: Mapping[str, JsonValue] | None = None
    error: TaskError | None = None

    @property
    def is_done(self) -> bool:
        return self.error is None


@dataclass(frozen=True)
class Task:
    """One row of `tasks`, of which TaskService and its helpers are the only writers.

    `round` counts from 1, one more for each retry; `attempts` are starts, which with `worker` fence off the one before;
    `deaths` those of workers that had it. `queued_at`: since when it may run and has a ticket in the queue; None: it
    waits for its user's turn. `closed_at`: when all that follows an end was done. `expires_at`:
    when it is forgotten by itself, as what guests made is.
    """

    id: str
    user_id: str
    kind: str
    status: TaskStatus
    params: Mapping[str, Any]
    results: tuple[ItemResult, ...]
    total: int
    completed: int
    progress: int
    error: TaskError | None
    client_job_id: str | None
    key_id: str | None
    own_key: str | None
    reservation: Reservation | None
    reference_count: int
    round: int
    attempts: int
    deaths: int
    worker: str | None
    lease_until: Milliseconds | None
    cancel_requested_at: Milliseconds | None
    queued_at: Milliseconds | None
    time_limit_ms: Milliseconds
    callback_url: str | None
    webhook_secret: str | None
    created_at: Milliseconds
    started_at: Milliseconds | None
    completed_at: Milliseconds | None
    closed_at: Milliseconds | None
    expires_at: Milliseconds | None

    @property
    def has_ended(self) -> bool:
        return self.status in ENDINGS

    @property
    def deadline(self) -> Milliseconds:
        """A worker's death is not a try: what it took of the time comes on top."""
        return (self.started_at or self.created_at) + self.time_limit_ms * (1 + self.deaths)

    @property
    def ticket(self) -> str:
        """By this the queue knows it; each time that it is queued it gets another."""
        return f"{self.id}:{self.queued_at}"

    @property
    def missing(self) -> tuple[int, ...]:
        """The items that are not done."""
        done = {result.index for result in self.results if result.is_done}
        return tuple(index for index in range(self.total) if index not in done)

    def snapshot(self) -> TaskSnapshot:
        """Its state as its events tell it."""
        return TaskSnapshot(
            status=self.status,
            round=self.round,
            percent=self.progress,
            message=_MESSAGES[self.status],
            changed_at=self.completed_at or self.started_at or self.created_at,
            data=self._told(),
        )

    def event(self) -> TaskEvent | None:
        return self.snapshot().event()

    def _told(self) -> dict[str, JsonValue]:
        told: dict[str, JsonValue] = {"completed": self.completed, "total": self.total}
        if self.has_ended:
            told["results"] = [told_of(result) for result in self.results]
        if self.error is not None:
            told["error"] = {"code": self.error.code, "type": self.error.type}
        return told


_MESSAGES: Mapping[TaskStatus, str] = {
    "pending": "waiting",
    "processing": "under way",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


def told_of(result: ItemResult) -> dict[str, JsonValue]:
    """An item as events tell of it."""
    if result.error is not None:
        return {"index": result.index, "status": "failed", "error_code": result.error.code}
    return {"index": result.index, "status": "completed", "id": (result.data or {}).get("id")}


@dataclass(frozen=True)
class TaskRequest:
    """A task that is to be. `params` is all that its kind needs; `key_id`: the service key that it came by;
    `expires_at`: see Task.
    """

    task_id: str
    user_id: str
    kind: str
    params: Mapping[str, Any]
    total: int
    reservation: Reservation | None = None
    own_key: SecretStr | None = None
    reference_count: int = 0
    client_job_id: str | None = None
    key_id: str | None = None
    webhook: WebhookTarget | None = None
    expires_at: Milliseconds | None = None


@dataclass(frozen=True)
class Submitted:
    """A task that was accepted. `replayed`: by an earlier call with the same Idempotency-Key."""

    task: Task
    replayed: bool = False


@dataclass(frozen=True)
class TaskFilter:
    """None: not asked for."""

    status: TaskStatus | None = None
    kind: str | None = None
    user_ids: tuple[str, ...] | None = None
    error_code: str | None = None


@dataclass(frozen=True)
class Ending:
    """How a round ends: state and what is to be written with it. `dropped` calls were sent and then cancelled."""

    status: TaskStatus
    results: tuple[ItemResult, ...]
    error: TaskError | None = None
    dropped: int = 0
