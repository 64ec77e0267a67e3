"""/api/v1/tasks: what takes long, for programs: started, looked at, stopped, tried again, forgotten."""

import time
from typing import Annotated, Any

from fastapi import Header, Query, Request, Response

from api.context import request_id_of
from api.dependencies import BaseUrl, Services, checked_key
from api.errors import errors
from api.event_stream import MEDIA_TYPE, event_stream
from api.examples import EXECUTION
from api.idempotency import IdempotencyHeader, idempotency_of
from api.programs import TaskChanger, TaskMaker, TaskReader
from api.routers.batch import SUBMIT_ERRORS
from api.routing import Router
from api.schemas.common import Envelope, Success
from api.schemas.tasks import (
    RetryBody,
    TaskBody,
    TaskDetailRead,
    TaskParams,
    TaskRead,
    TasksQuery,
    TasksRead,
    TaskStartedRead,
)
from api.task_answers import TASK_ID, accepted_notice, milliseconds_since, replay_headers, started_read, view_of
from core.errors import FieldProblem, NotFound, RateLimited, StorageUnavailable, Unauthorized, ValidationFailed
from services.accounts.models import Caller
from services.container import Container
from services.generation.models import CAPABILITIES, GenerationCommand
from services.generation.sizes import meant_by
from services.idempotency import Conflict, IdempotencyMismatch
from services.tasks.errors import NoCallback, ReferencesGone, WrongState
from services.tasks.models import Submitted, Task
from services.tasks.streams import TooManyStreams

KIND = "generate"
SENT_AS = {"model": "model_id"} | {name: f"params.{name}" for name in TaskParams.model_fields}
EXECUTION_RESPONSES: dict[int | str, dict[str, Any]] = {
    **errors(*SUBMIT_ERRORS, TooManyStreams),
    200: {
        "description": "Server-Sent Events, until the task has ended",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": EXECUTION}},
    },
}

router = Router(prefix="/api/v1", tags=["tasks"])


@router.post("/tasks/generate", status_code=202, responses=errors(*SUBMIT_ERRORS))
async def start_generation(
    request: Request,
    response: Response,
    body: TaskBody,
    services: Services,
    caller: TaskMaker,
    base_url: BaseUrl,
    key: IdempotencyHeader,
) -> Envelope[TaskStartedRead]:
    """Start a task that makes images, and answer where to look at it."""
    began = time.perf_counter()
    submitted = await _submitted(request, body, services, caller, key, "tasks/generate")
    response.headers.update(replay_headers(submitted))
    started = started_read(request, submitted, base_url)
    return Envelope(data=started, execution_time_ms=milliseconds_since(began))


@router.post("/tasks/execute", response_class=Response, responses=EXECUTION_RESPONSES)
async def execute_generation(
    request: Request,
    body: TaskBody,
    services: Services,
    caller: TaskMaker,
    base_url: BaseUrl,
    key: IdempotencyHeader,
    last_event_id: Annotated[str, Header(description="with an Idempotency-Key that was sent before: go on there")] = "",
) -> Response:
    """Start a task as /tasks/generate does, and watch it in the same call.

    The first event, a heartbeat, and the headers say which task it is. Whoever hangs up does not stop it.
    """
    services.task_streams.check_room(caller.user_id)
    submitted = await _submitted(request, body, services, caller, key, "tasks/execute")
    started, task = started_read(request, submitted, base_url), submitted.task
    pages = services.task_streams.watch_accepted(caller.user_id, task.id, last_event_id, accepted_notice(started, task))
    headers = {"Location": started.poll_url, TASK_ID: task.id, **replay_headers(submitted)}
    return await event_stream(task.id, pages, headers)


async def _in_detail(request: Request, task: Task, services: Container, base_url: str) -> TaskDetailRead:
    return TaskDetailRead.with_webhook(task, await services.task_webhooks.of(task), view_of(request, base_url))


async def _submitted(
    request: Request, body: TaskBody, services: Container, caller: Caller, key: str | None, route: str
) -> Submitted:
    """Raises ValidationFailed with the names that this body has for the fields of a command."""
    try:
        return await services.image_tasks.submit(
            _command(request, body, services, caller, key, route),
            caller,
            kind=KIND,
            count=body.params.num,
            client_job_id=body.client_job_id,
            key_id=caller.service_key_id,
            webhook=body.webhook(),
        )
    except ValidationFailed as error:
        raise error.renamed(SENT_AS) from None


def _command(
    request: Request, body: TaskBody, services: Container, caller: Caller, key: str | None, route: str
) -> GenerationCommand:
    params, defaults, own_key = body.params, services.settings.defaults, services.own_keys.of(caller)
    aspect_ratio, resolution = _size(body, services, has_own_key=own_key is not None)
    return GenerationCommand(
        request_id=request_id_of(request),
        caller=caller,
        own_key=own_key,
        mode="basic" if params.num == 1 else "batch",
        prompt=params.prompt,
        aspect_ratio=aspect_ratio,
        resolution=resolution,
        safety_level=params.safety_level or defaults.default_safety_level,
        enable_thinking=params.enable_thinking,
        negative_prompt=params.negative_prompt,
        seed=params.seed,
        provider=body.provider,
        model=body.model_id,
        save_to_history=params.save_to_history,
        idempotency=idempotency_of(caller, key, route, body),
    )


@router.get("/tasks", responses=errors(Unauthorized, RateLimited))
async def list_tasks(
    request: Request,
    query: Annotated[TasksQuery, Query()],
    services: Services,
    caller: TaskReader,
    base_url: BaseUrl,
) -> Envelope[TasksRead]:
    """My tasks, the newest first."""
    began = time.perf_counter()
    page = await services.tasks.page(caller.user_id, query.filter(), query.limit, query.offset)
    read = TasksRead.of(page, view_of(request, base_url))
    return Envelope(data=read, execution_time_ms=milliseconds_since(began))


@router.get("/tasks/{task_id}", responses=errors(Unauthorized, NotFound, RateLimited))
@router.get("/jobs/{task_id}", name="read_job", responses=errors(Unauthorized, NotFound, RateLimited))
async def read_task(
    request: Request, task_id: str, services: Services, caller: TaskReader, base_url: BaseUrl
) -> Envelope[TaskDetailRead]:
    """One of my tasks as it stands, with links to its images and the tries of its webhook."""
    began = time.perf_counter()
    task = await services.tasks.get(caller.user_id, task_id)
    read = await _in_detail(request, task, services, base_url)
    return Envelope(data=read, execution_time_ms=milliseconds_since(began))


@router.post("/tasks/{task_id}/cancel", responses=errors(Unauthorized, NotFound, RateLimited, WrongState))
async def cancel_task(
    request: Request, task_id: str, services: Services, caller: TaskChanger, base_url: BaseUrl
) -> Envelope[TaskRead]:
    """Stop a task: what is made is kept, what is unspent goes back. 409 when it has ended otherwise."""
    began = time.perf_counter()
    task = await services.tasks.cancel(caller.user_id, task_id)
    read = TaskRead.of(task, view_of(request, base_url))
    return Envelope(data=read, execution_time_ms=milliseconds_since(began))


@router.post(
    "/tasks/{task_id}/retry",
    status_code=202,
    responses=errors(*SUBMIT_ERRORS, WrongState, ReferencesGone, StorageUnavailable),
)
async def retry_task(
    request: Request,
    response: Response,
    task_id: str,
    body: RetryBody,
    services: Services,
    caller: TaskMaker,
    base_url: BaseUrl,
    key: IdempotencyHeader,
) -> Envelope[TaskStartedRead]:
    """A failed or cancelled one again, of which only what is missing is made, on points that are held anew."""
    began = time.perf_counter()
    own_key = services.own_keys.of(caller) if body.api_key is None else checked_key(body.api_key.get_secret_value())
    idempotency = idempotency_of(caller, key, f"tasks/{task_id}/retry", body)
    submitted = await services.image_tasks.retry(caller, task_id, own_key, idempotency)
    response.headers.update(replay_headers(submitted))
    started = started_read(request, submitted, base_url)
    return Envelope(data=started, execution_time_ms=milliseconds_since(began))


@router.post(
    "/tasks/{task_id}/redeliver",
    responses=errors(Unauthorized, NotFound, RateLimited, WrongState, NoCallback, Conflict, IdempotencyMismatch),
)
async def redeliver_task(
    request: Request,
    response: Response,
    task_id: str,
    services: Services,
    caller: TaskMaker,
    base_url: BaseUrl,
    key: IdempotencyHeader,
) -> Envelope[TaskDetailRead]:
    """Tell once more how a task has ended, at once: the same message, and its whole schedule again if that fails."""
    began = time.perf_counter()
    idempotency = idempotency_of(caller, key, f"tasks/{task_id}/redeliver")
    submitted = await services.task_webhooks.redeliver(caller.user_id, task_id, idempotency)
    response.headers.update(replay_headers(submitted))
    return Envelope(
        data=await _in_detail(request, submitted.task, services, base_url), execution_time_ms=milliseconds_since(began)
    )


@router.delete(
    "/tasks/{task_id}", responses=errors(Unauthorized, NotFound, RateLimited, WrongState, StorageUnavailable)
)
async def delete_task(task_id: str, services: Services, caller: TaskChanger) -> Envelope[Success]:
    """Forget a task that has ended; its images stay."""
    began = time.perf_counter()
    await services.tasks.forget(caller.user_id, task_id)
    return Envelope(data=Success(), execution_time_ms=milliseconds_since(began))


def _size(body: TaskBody, services: Container, *, has_own_key: bool) -> tuple[str, str]:
    """Ratio and resolution. Raises ValidationFailed, also for parameters of other models."""
    params, defaults = body.params, services.settings.defaults
    # No provider of ours has such knobs.
    foreign = [name for name in ("steps", "cfg_scale") if getattr(params, name) is not None]
    if foreign:
        raise ValidationFailed([FieldProblem(f"params.{name}", "not_supported") for name in foreign])
    if params.width is None or params.height is None:
        return (
            params.aspect_ratio or defaults.default_aspect_ratio,
            params.resolution or defaults.default_resolution,
        )
    model = services.providers.model(
        CAPABILITIES["basic"], provider=body.provider, model=body.model_id, has_own_key=has_own_key
    )
    return meant_by(model, params.width, params.height)
