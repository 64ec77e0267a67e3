"""Tasks."""

import math
from collections.abc import Callable
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.common import MAX_OFFSET, PageRead, PlainText, Prompt, RequestModel, SecretText, ShortText, Timestamp
from api.schemas.errors import ErrorBody
from api.schemas.generate import MAX_SEED
from api.schemas.webhooks import WebhookRead
from core.clock import now_ms, utc
from core.errors import FieldProblem, ValidationFailed
from core.paging import Page
from services.history.links import LinkService
from services.providers.base import SafetyLevel
from services.tasks.events import TaskStatus
from services.tasks.models import ItemResult, Task, TaskError, TaskFilter
from services.tasks.webhooks import TaskWebhook
from services.webhooks.models import WebhookTarget

MAX_IMAGES = 10
MAX_SIDE = 16384

TaskKindName = Literal["generate", "batch"]
ItemStatus = Literal["completed", "failed"]


class BatchBody(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={"example": {"prompt": "A lighthouse at dusk, watercolour", "count": 4}}
    )

    prompt: Prompt
    count: int = Field(ge=1, le=MAX_IMAGES, description="images of this prompt, 1–10")
    aspect_ratio: ShortText | None = Field(None, description="as in /basic")
    resolution: ShortText | None = Field(None, description="1K 2K 4K, as the model takes; default: DEFAULT_RESOLUTION")
    safety_level: SafetyLevel | None = Field(None, description="as in /basic")
    save_to_history: bool = Field(True, description="false: kept 24 h for their links alone, listed nowhere")
    provider: ShortText | None = Field(None, description="default: gemini where there is a key, else demo")
    model: ShortText | None = Field(None, description="a model's id or alias; default: the provider's")
    negative_prompt: Prompt | None = Field(None, description="refused where the model takes none")
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="refused where the model takes none")


class TaskParams(RequestModel):
    """What is to be made. A size is given as a ratio and a resolution, or as width and height together."""

    prompt: Prompt
    num: int = Field(1, ge=1, le=MAX_IMAGES, description="images of this prompt")
    width: int | None = Field(None, ge=1, le=MAX_SIDE, description="pixels; with height one of the model's sizes")
    height: int | None = Field(None, ge=1, le=MAX_SIDE, description="pixels")
    aspect_ratio: ShortText | None = Field(None, description="default: DEFAULT_ASPECT_RATIO")
    resolution: ShortText | None = Field(None, description="1K 2K 4K, as the model takes; default: DEFAULT_RESOLUTION")
    negative_prompt: Prompt | None = Field(None, description="refused where the model takes none")
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="refused where the model takes none")
    steps: int | None = Field(None, ge=1, description="refused where the model takes none")
    cfg_scale: float | None = Field(None, ge=0, description="refused where the model takes none")
    safety_level: SafetyLevel | None = Field(None, description="default: DEFAULT_SAFETY_LEVEL")
    enable_thinking: bool = Field(False, description="let the model think aloud; the thoughts stand in the history")
    save_to_history: bool = Field(True, description="false: kept 24 h for their links alone, listed nowhere")

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.width is None) != (self.height is None):
            raise PydanticCustomError("missing", "width and height belong together")
        if self.width is not None and (self.aspect_ratio is not None or self.resolution is not None):
            raise PydanticCustomError("exclusive", "either width and height, or aspect_ratio and resolution")
        return self


class TaskBody(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "params": {"prompt": "A lighthouse at dusk, watercolour", "width": 1360, "height": 768, "num": 2},
                "client_job_id": "order-17",
            }
        }
    )

    provider: ShortText | None = Field(None, description="default: gemini where there is a key, else demo")
    model_id: ShortText | None = Field(None, description="a model's id or alias; default: the provider's")
    params: TaskParams
    client_job_id: ShortText | None = Field(None, description="the caller's own name for it, given back as it is")
    callback_url: PlainText | None = Field(None, description="told by POST how it ended; http(s), a public address")
    webhook_secret: SecretText | None = Field(
        None, description="8–256 characters that what is told is signed with; with a callback_url alone"
    )

    def webhook(self) -> WebhookTarget | None:
        """Who is to be told. Raises ValidationFailed for a secret without anybody."""
        if self.callback_url is not None:
            return WebhookTarget(self.callback_url, self.webhook_secret)
        if self.webhook_secret is not None:
            raise ValidationFailed([FieldProblem("callback_url", "missing")])
        return None


class RetryBody(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {}})

    api_key: SecretText | None = Field(
        None, description="the own Google key again, for a task that was made with one; default: the saved one"
    )


class TasksQuery(RequestModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    status: TaskStatus | None = None
    kind: TaskKindName | None = None
    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)

    def filter(self) -> TaskFilter:
        return TaskFilter(self.status, self.kind)


Localise = Callable[[TaskError], ErrorBody]


class View:
    """What turns the rows of tasks into what one caller sees: their links, in their language."""

    def __init__(self, links: LinkService, base_url: str, localise: Localise) -> None:
        self.base_url = base_url
        self.localise = localise
        self._links = links
        self._expires_at = links.expires_at(now_ms())

    def urls(self, image_id: str, key: str) -> tuple[str, str]:
        return self._links.urls(self.base_url, image_id, key, self._expires_at)


class ItemRead(BaseModel):
    """One image of a task: its links, or why there is none."""

    index: int
    status: ItemStatus
    image_url: str | None = None
    thumbnail_url: str | None = None
    mime_type: str | None = None
    width: int | None = Field(None, description="pixels")
    height: int | None = Field(None, description="pixels")
    duration: float | None = Field(None, description="seconds that the provider took, its retries included")
    history_id: str | None = None
    error: ErrorBody | None = None

    @classmethod
    def of(cls, result: ItemResult, view: View) -> Self:
        if result.error is not None:
            return cls(index=result.index, status="failed", error=view.localise(result.error))
        data: dict[str, Any] = dict(result.data or {})
        image_url, thumbnail_url = view.urls(data["id"], data["key"])
        facts = {name: data[name] for name in ("mime_type", "width", "height", "duration")}
        return cls(
            index=result.index,
            status="completed",
            image_url=image_url,
            thumbnail_url=thumbnail_url,
            history_id=data["id"] if data["listed"] else None,
            **facts,
        )


class BatchRead(BaseModel):
    """How far a batch is; some of its images may fail while others succeed."""

    task_id: str
    status: TaskStatus
    total: int
    completed: int = Field(description="images that are made")
    results: list[ItemRead]

    @classmethod
    def of(cls, task: Task, view: View) -> Self:
        return cls(
            task_id=task.id,
            status=task.status,
            total=task.total,
            completed=task.completed,
            results=[ItemRead.of(result, view) for result in task.results],
        )


class TaskRead(BaseModel):
    """A task as it stands."""

    task_id: str
    kind: str
    status: TaskStatus
    progress: int = Field(description="0–100")
    total: int = Field(description="images that are to be made")
    completed: int = Field(description="images that are made")
    results: list[ItemRead]
    error: ErrorBody | None = None
    client_job_id: str | None = None
    created_at: Timestamp
    started_at: Timestamp | None = None
    completed_at: Timestamp | None = None
    attempts: int = Field(description="how often a worker has started it")

    @classmethod
    def of(cls, task: Task, view: View) -> Self:
        return cls(
            task_id=task.id,
            kind=task.kind,
            status=task.status,
            progress=task.progress,
            total=task.total,
            completed=task.completed,
            results=[ItemRead.of(result, view) for result in task.results],
            error=None if task.error is None else view.localise(task.error),
            client_job_id=task.client_job_id,
            created_at=utc(task.created_at),
            started_at=None if task.started_at is None else utc(task.started_at),
            completed_at=None if task.completed_at is None else utc(task.completed_at),
            attempts=task.attempts,
        )


class TaskDetailRead(TaskRead):
    """A task as it stands, with what became of its webhook."""

    webhook: WebhookRead | None = Field(None, description="null for a task without a callback_url")

    @classmethod
    def with_webhook(cls, task: Task, webhook: TaskWebhook | None, view: View) -> Self:
        read = cls.of(task, view)
        read.webhook = None if webhook is None else WebhookRead.of(webhook)
        return read


class TasksRead(PageRead[TaskRead]):
    @classmethod
    def of(cls, page: Page[Task], view: View) -> Self:
        return cls.with_items([TaskRead.of(task, view) for task in page.items], page)


class TaskStartedRead(BaseModel):
    """A task that was accepted, and where to look at it."""

    task_id: str
    status: TaskStatus
    poll_url: str
    events_url: str
    estimated_duration: int = Field(description="seconds that such images mostly take, once they are begun")

    @classmethod
    def of(cls, task: Task, base_url: str, seconds_an_image: float, side_by_side: int) -> Self:
        address = f"{base_url}/api/v1/tasks/{task.id}"
        return cls(
            task_id=task.id,
            status=task.status,
            poll_url=address,
            events_url=f"{address}/events",
            estimated_duration=math.ceil(seconds_an_image * math.ceil(task.total / side_by_side)),
        )
