"""/api/generate/batch: several images of one prompt, in the background."""

import time

from fastapi import Request, Response

from api.context import request_id_of
from api.dependencies import BaseUrl, CurrentCaller, MakingUser, OwnKey, Services
from api.errors import errors
from api.idempotency import IdempotencyHeader, idempotency_of
from api.routing import Router
from api.schemas.common import Envelope
from api.schemas.tasks import BatchBody, BatchRead
from api.task_answers import milliseconds_since, replay_headers, view_of
from core.errors import NotFound, PayloadTooLarge, RateLimited, RequestTimeout, Unauthorized
from services.generation.models import GenerationCommand
from services.idempotency import Conflict, IdempotencyMismatch
from services.moderation.errors import ContentBlocked
from services.providers.errors import ApiKeyRequired, InvalidApiKey
from services.quota.errors import Cooldown, QuotaExceeded

KIND = "batch"
SUBMIT_ERRORS = (
    Unauthorized, ApiKeyRequired, InvalidApiKey, QuotaExceeded, Cooldown, RateLimited, ContentBlocked, PayloadTooLarge,
    RequestTimeout, Conflict, IdempotencyMismatch, NotFound,
)  # fmt: skip

router = Router(prefix="/api/generate/batch", tags=["generate"])


@router.post("", status_code=202, responses=errors(*SUBMIT_ERRORS))
async def generate_batch(
    request: Request,
    response: Response,
    body: BatchBody,
    services: Services,
    caller: MakingUser,
    own_key: OwnKey,
    base_url: BaseUrl,
    key: IdempotencyHeader,
) -> Envelope[BatchRead]:
    """1–10 images of one prompt. Its points are held for all of them, and given back for each that is not made."""
    began, defaults = time.perf_counter(), services.settings.defaults
    command = GenerationCommand(
        request_id=request_id_of(request),
        caller=caller,
        own_key=own_key,
        mode="batch",
        prompt=body.prompt,
        aspect_ratio=body.aspect_ratio or defaults.default_aspect_ratio,
        resolution=body.resolution or defaults.default_resolution,
        safety_level=body.safety_level or defaults.default_safety_level,
        negative_prompt=body.negative_prompt,
        seed=body.seed,
        provider=body.provider,
        model=body.model,
        save_to_history=body.save_to_history,
        idempotency=idempotency_of(caller, key, KIND, body),
    )
    submitted = await services.image_tasks.submit(command, caller, kind=KIND, count=body.count)
    response.headers.update(replay_headers(submitted))
    view = view_of(request, base_url)
    return Envelope(data=BatchRead.of(submitted.task, view), execution_time_ms=milliseconds_since(began))


@router.get("/{task_id}", responses=errors(Unauthorized, NotFound, RateLimited))
async def read_batch(
    request: Request, task_id: str, services: Services, caller: CurrentCaller, base_url: BaseUrl
) -> Envelope[BatchRead]:
    """How far one of my batches is."""
    began = time.perf_counter()
    task = await services.tasks.get(caller.user_id, task_id)
    if task.kind != KIND:
        raise NotFound(f"batch {task_id}")
    view = view_of(request, base_url)
    return Envelope(data=BatchRead.of(task, view), execution_time_ms=milliseconds_since(began))
