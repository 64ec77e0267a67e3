"""Tasks as admins see them: what running the service takes, and nothing of what was asked for or made."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.common import MAX_OFFSET, PageRead, RequestModel, ShortText, Timestamp
from api.schemas.tasks import TaskKindName
from core.clock import Milliseconds, utc
from core.paging import Page
from services.tasks.events import TaskStatus
from services.tasks.models import Task, TaskFilter

WaitsFor = Literal["worker", "turn"]


class AdminTasksQuery(RequestModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    status: TaskStatus | None = None
    kind: TaskKindName | None = None
    user_id: ShortText | None = Field(None, description="whose they are")
    error_code: ShortText | None = Field(None, description="of those that failed, by the code of the error")
    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)

    def filter(self) -> TaskFilter:
        user_ids = None if self.user_id is None else (self.user_id,)
        return TaskFilter(self.status, self.kind, user_ids, self.error_code)


class AdminTaskRead(BaseModel):
    """One of anybody's tasks. Neither prompt nor results, links, error details or the caller's own name for it."""

    task_id: str
    user_id: str
    kind: str
    status: TaskStatus
    waits_for: WaitsFor | None = Field(description="of a pending one: a worker, or the end of another of its user's")
    provider: str | None
    model: str | None
    resolution: str | None
    uses_own_key: bool
    service_key_id: str | None = Field(description="the service key that it came by")
    progress: int = Field(description="0–100")
    total: int = Field(description="images that are to be made")
    completed: int = Field(description="images that are made")
    error_code: str | None
    round: int = Field(description="1, and one more for each retry")
    attempts: int = Field(description="how often a worker has started it")
    deaths: int = Field(description="workers that died over this round")
    worker: str | None = Field(description="the worker process that has it now")
    created_at: Timestamp
    queued_at: Timestamp | None = Field(description="since when it may run, or might have")
    started_at: Timestamp | None
    completed_at: Timestamp | None

    @classmethod
    def of(cls, task: Task) -> Self:
        waits_for: WaitsFor = "turn" if task.queued_at is None else "worker"
        return cls(
            task_id=task.id,
            user_id=task.user_id,
            kind=task.kind,
            status=task.status,
            waits_for=waits_for if task.status == "pending" else None,
            provider=task.params.get("provider"),
            model=task.params.get("model"),
            resolution=task.params.get("resolution"),
            uses_own_key=task.params.get("uses_own_key", False),
            service_key_id=task.key_id,
            progress=task.progress,
            total=task.total,
            completed=task.completed,
            error_code=None if task.error is None else task.error.code,
            round=task.round,
            attempts=task.attempts,
            deaths=task.deaths,
            worker=task.worker,
            created_at=utc(task.created_at),
            queued_at=_utc(task.queued_at),
            started_at=_utc(task.started_at),
            completed_at=_utc(task.completed_at),
        )


def _utc(at: Milliseconds | None) -> Timestamp | None:
    return None if at is None else utc(at)


class AdminTasksRead(PageRead[AdminTaskRead]):
    @classmethod
    def of(cls, page: Page[Task]) -> Self:
        return cls.with_items([AdminTaskRead.of(task) for task in page.items], page)
