"""/api/generate: making images."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query, Request, Response

from api.context import request_id_of
from api.dependencies import BaseUrl, CurrentCaller, KeyBeside, MakingCaller, OwnKey, Services
from api.errors import errors
from api.idempotency import IdempotencyHeader, idempotency_of
from api.openapi import body_with_images
from api.prefer import PrefersAsync
from api.routing import Router
from api.schemas.common import Envelope
from api.schemas.generate import BasicBody, EstimateQuery, EstimateRead, GeneratedRead, SearchBody
from api.schemas.tasks import TaskStartedRead
from api.task_answers import for_later, started_answer
from api.uploads.with_references import BlendRequest
from core.clock import now_ms
from core.errors import (
    FieldProblem,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    RequestTimeout,
    StorageUnavailable,
    Unauthorized,
    ValidationFailed,
)
from services.container import Container
from services.generation.models import CAPABILITIES, GenerationCommand
from services.idempotency import Conflict, IdempotencyMismatch
from services.moderation.errors import ContentBlocked
from services.providers.base import Model
from services.providers.errors import (
    ApiKeyRequired,
    InvalidApiKey,
    NoImage,
    ProviderConnection,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from services.quota.errors import Cooldown, QuotaExceeded
from services.references.errors import UnsupportedImage

ONE_RESOLUTION = "1K"  # of what is not plain text to image

router = Router(prefix="/api/generate", tags=["generate"])

CAN_HAPPEN = (
    Unauthorized, ApiKeyRequired, InvalidApiKey, QuotaExceeded, Cooldown, RateLimited, ContentBlocked,
    ProviderOverloaded, ProviderUnavailable, ProviderTimeout, ProviderRateLimited, ProviderConnection,
    ProviderRejected, NoImage, PayloadTooLarge, RequestTimeout, StorageUnavailable, Conflict, IdempotencyMismatch,
    NotFound,
)  # fmt: skip
_STARTED: dict[int | str, dict[str, Any]] = {
    202: {"model": Envelope[TaskStartedRead], "description": "with `Prefer: respond-async`: a task makes it"}
}
GENERATION_ERRORS = {**errors(*CAN_HAPPEN), **_STARTED}


@router.post("/basic", response_model=Envelope[GeneratedRead], responses=GENERATION_ERRORS)
async def generate_basic(
    request: Request,
    body: BasicBody,
    services: Services,
    caller: MakingCaller,
    own_key: OwnKey,
    base_url: BaseUrl,
    key: IdempotencyHeader,
    is_async: PrefersAsync,
) -> Response:
    """Text to image. Anonymous callers bring their own key, and nothing is kept then."""
    defaults = services.settings.defaults
    command = GenerationCommand(
        request_id=request_id_of(request),
        caller=caller,
        own_key=own_key,
        mode="basic",
        prompt=body.prompt,
        aspect_ratio=body.aspect_ratio or defaults.default_aspect_ratio,
        resolution=body.resolution or defaults.default_resolution,
        safety_level=body.safety_level or defaults.default_safety_level,
        enable_thinking=body.enable_thinking,
        negative_prompt=body.negative_prompt,
        seed=body.seed,
        provider=body.provider,
        model=body.model,
        save_to_history=body.save_to_history,
        include_bytes=body.include_base64 or caller is None,
        idempotency=idempotency_of(caller, key, "basic", body),
    )
    return await _answer(command, request, services, base_url, is_async=is_async)


@router.post("/search", response_model=Envelope[GeneratedRead], responses=GENERATION_ERRORS)
async def generate_search(
    request: Request,
    body: SearchBody,
    services: Services,
    caller: MakingCaller,
    own_key: OwnKey,
    base_url: BaseUrl,
    key: IdempotencyHeader,
    is_async: PrefersAsync,
) -> Response:
    """Text to image, grounded in a search, with its sources; always 1K."""
    defaults = services.settings.defaults
    command = GenerationCommand(
        request_id=request_id_of(request),
        caller=caller,
        own_key=own_key,
        mode="search",
        prompt=body.prompt,
        aspect_ratio=body.aspect_ratio or defaults.default_aspect_ratio,
        resolution=ONE_RESOLUTION,
        safety_level=body.safety_level or defaults.default_safety_level,
        provider=body.provider,
        model=body.model,
        save_to_history=body.save_to_history,
        include_bytes=body.include_base64 or caller is None,
        idempotency=idempotency_of(caller, key, "search", body),
    )
    return await _answer(command, request, services, base_url, is_async=is_async)


@router.post(
    "/blend",
    response_model=Envelope[GeneratedRead],
    responses={**errors(*CAN_HAPPEN, UnsupportedImage), **_STARTED},
    openapi_extra=body_with_images("Blend"),
)
async def generate_blend(
    request: Request,
    services: Services,
    caller: MakingCaller,
    own_key: OwnKey,
    base_url: BaseUrl,
    given: BlendRequest,
    is_async: PrefersAsync,
) -> Response:
    """1–14 images and a prompt to one image, or the first image in the style of the second; always 1K."""
    body = given.body
    command = GenerationCommand(
        request_id=request_id_of(request),
        caller=caller,
        own_key=own_key,
        mode=body.mode,
        prompt=body.prompt,
        aspect_ratio=body.aspect_ratio,
        resolution=ONE_RESOLUTION,
        safety_level=body.safety_level or services.settings.defaults.default_safety_level,
        provider=body.provider,
        model=body.model,
        save_to_history=body.save_to_history,
        include_bytes=body.include_base64 or caller is None,
        references=given.references,
        idempotency=given.idempotency,
    )
    return await _answer(command, request, services, base_url, is_async=is_async)


@router.get("/estimate", responses=errors(Unauthorized, InvalidApiKey, RateLimited))
async def estimate_cost(
    query: Annotated[EstimateQuery, Query()], services: Services, caller: CurrentCaller, own_key: KeyBeside
) -> Envelope[EstimateRead]:
    """What images would cost at the provider, before spending."""
    started = time.perf_counter()
    found = services.providers.estimate(
        CAPABILITIES[query.mode],
        provider=query.provider,
        model=query.model,
        resolution=_resolution(query, services.settings.defaults.default_resolution),
        count=query.count,
        has_own_key=own_key is not None,
    )
    return Envelope(data=EstimateRead.of(found), execution_time_ms=round((time.perf_counter() - started) * 1000))


async def _answer(
    command: GenerationCommand, request: Request, services: Container, base_url: str, *, is_async: bool
) -> Response:
    """Through the pipeline. The time that is answered counts from here: until then the body was on its way."""
    started = time.perf_counter()
    if is_async:
        submitted = await services.image_tasks.submit(*for_later(command), kind="generate")
        return started_answer(request, submitted, base_url, started)
    generated = await services.generation.generate(command, connected(request))
    envelope = Envelope[GeneratedRead](
        data=GeneratedRead.of(generated, services.links, base_url, now_ms()),
        execution_time_ms=round((time.perf_counter() - started) * 1000),
    )
    # Written here: FastAPI would hold what was just made against its model once more.
    return Response(
        envelope.model_dump_json(),
        headers=answer_headers(generated.lifecycle, replayed=generated.replayed),
        media_type="application/json",
    )


def _resolution(query: EstimateQuery, default: str) -> str:
    if query.mode == "basic":
        return query.resolution or default
    if query.resolution not in {None, ONE_RESOLUTION}:
        raise ValidationFailed([FieldProblem("resolution", "not_supported", allowed=(ONE_RESOLUTION,))])
    return ONE_RESOLUTION


def answer_headers(model: Model | None, *, replayed: bool) -> dict[str, str]:
    """`Deprecation` (RFC 9745) and `Sunset` (RFC 8594) of a model near its end; `Idempotency-Replayed`."""
    headers = {"Idempotency-Replayed": "true"} if replayed else {}
    if model is not None and model.deprecated_on is not None:
        moment = datetime(model.deprecated_on.year, model.deprecated_on.month, model.deprecated_on.day, tzinfo=UTC)
        headers["Deprecation"] = f"@{int(moment.timestamp())}"
    if model is not None and model.ends_on is not None:
        headers["Sunset"] = f"{model.ends_on:%a, %d %b %Y} 23:59:59 GMT"
    return headers


def connected(request: Request) -> Callable[[], Awaitable[bool]]:
    async def is_connected() -> bool:
        return not await request.is_disconnected()

    return is_connected
