"""/api/generate: making images."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.context import request_id_of
from api.dependencies import BaseUrl, CurrentCaller, KeyBeside, MakingCaller, OwnKey, Services
from api.errors import errors
from api.idempotency import IdempotencyHeader, idempotency_of
from api.schemas.common import Envelope
from api.schemas.generate import BasicBody, EstimateQuery, EstimateRead, GeneratedRead
from core.clock import now_ms
from core.errors import NotFound, PayloadTooLarge, RateLimited, RequestTimeout, StorageUnavailable, Unauthorized
from services.generation.models import Generated, GenerationCommand
from services.idempotency import Conflict, IdempotencyMismatch
from services.moderation.errors import ContentBlocked
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

router = APIRouter(prefix="/api/generate", tags=["generate"])

GENERATION_ERRORS = errors(
    Unauthorized, ApiKeyRequired, InvalidApiKey, QuotaExceeded, Cooldown, RateLimited, ContentBlocked,
    ProviderOverloaded, ProviderUnavailable, ProviderTimeout, ProviderRateLimited, ProviderConnection,
    ProviderRejected, NoImage, PayloadTooLarge, RequestTimeout, StorageUnavailable, Conflict, IdempotencyMismatch,
    NotFound,
)  # fmt: skip


@router.post("/basic", responses=GENERATION_ERRORS)
async def generate_basic(
    request: Request,
    response: Response,
    body: BasicBody,
    services: Services,
    caller: MakingCaller,
    own_key: OwnKey,
    base_url: BaseUrl,
    key: IdempotencyHeader,
) -> Envelope[GeneratedRead]:
    """Text to image. Anonymous callers bring their own key, and nothing is kept then."""
    started = time.perf_counter()
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
    generated = await services.generation.generate(command, _connected(request))
    response.headers.update(answer_headers(generated))
    return Envelope(
        data=GeneratedRead.of(generated, services.links, base_url, now_ms()),
        execution_time_ms=round((time.perf_counter() - started) * 1000),
    )


@router.get("/estimate", responses=errors(Unauthorized, InvalidApiKey, RateLimited))
async def estimate_cost(
    query: Annotated[EstimateQuery, Query()], services: Services, caller: CurrentCaller, own_key: KeyBeside
) -> Envelope[EstimateRead]:
    """What images would cost at the provider, before spending."""
    started = time.perf_counter()
    found = services.providers.estimate(
        provider=query.provider,
        model=query.model,
        resolution=query.resolution or services.settings.defaults.default_resolution,
        count=query.count,
        has_own_key=own_key is not None,
    )
    return Envelope(data=EstimateRead.of(found), execution_time_ms=round((time.perf_counter() - started) * 1000))


def answer_headers(generated: Generated) -> dict[str, str]:
    """`Deprecation` (RFC 9745) and `Sunset` (RFC 8594) of a model near its end; `Idempotency-Replayed`."""
    headers = {"Idempotency-Replayed": "true"} if generated.replayed else {}
    model = generated.lifecycle
    if model is not None and model.deprecated_on is not None:
        moment = datetime(model.deprecated_on.year, model.deprecated_on.month, model.deprecated_on.day, tzinfo=UTC)
        headers["Deprecation"] = f"@{int(moment.timestamp())}"
    if model is not None and model.ends_on is not None:
        headers["Sunset"] = f"{model.ends_on:%a, %d %b %Y} 23:59:59 GMT"
    return headers


def _connected(request: Request) -> Callable[[], Awaitable[bool]]:
    async def connected() -> bool:
        return not await request.is_disconnected()

    return connected
