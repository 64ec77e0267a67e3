"""/api/prompts: prompts to start from."""

from typing import Annotated

from fastapi import Query, Request, Response, status

from api.context import request_id_of, translations_of
from api.dependencies import CurrentCaller, MakingUser, OwnKey, Services
from api.errors import errors
from api.idempotency import IdempotencyHeader, idempotency_of
from api.openapi import DESCRIBE_BODY
from api.routing import Router
from api.schemas.common import Success
from api.schemas.history_changes import FavoriteRequest
from api.schemas.prompts import (
    DraftsRead,
    EnhanceBody,
    GenerateBody,
    PromptBody,
    PromptChangeBody,
    PromptRead,
    PromptsQuery,
    PromptsRead,
    VariationsBody,
    WrittenRead,
)
from api.uploads.describe import DescribeRequest
from core.errors import NotFound, PayloadTooLarge, RateLimited, RequestTimeout, StorageUnavailable, Unauthorized
from services.idempotency import Conflict, IdempotencyMismatch
from services.moderation.errors import ContentBlocked
from services.prompts.errors import TooManyPrompts
from services.prompts.models import Language
from services.prompts.tools import ToolCall
from services.providers.errors import (
    ApiKeyRequired,
    InvalidApiKey,
    ProviderConnection,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    UnusableAnswer,
)
from services.quota.errors import QuotaExceeded
from services.references.errors import UnsupportedImage

router = Router(prefix="/api/prompts", tags=["prompts"])

_WITH_BODY = (Unauthorized, PayloadTooLarge, RequestTimeout, RateLimited)
_TOOL = (
    *_WITH_BODY, ApiKeyRequired, InvalidApiKey, QuotaExceeded, ContentBlocked, ProviderOverloaded, ProviderUnavailable,
    ProviderTimeout, ProviderRateLimited, ProviderConnection, ProviderRejected, UnusableAnswer,
)  # fmt: skip


@router.get("", responses=errors(Unauthorized, RateLimited))
async def list_prompts(
    query: Annotated[PromptsQuery, Query()], caller: CurrentCaller, services: Services
) -> PromptsRead:
    """Mine, and the library's."""
    page = await services.prompts.service.page(caller, query.filter(), query.limit, query.offset)
    return PromptsRead.of(page, query.limit, query.offset)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=errors(NotFound, TooManyPrompts, Conflict, IdempotencyMismatch, *_WITH_BODY),
)
async def keep_prompt(
    body: PromptBody, caller: MakingUser, services: Services, key: IdempotencyHeader, response: Response
) -> PromptRead:
    """Keep a prompt of mine; nobody else sees it."""
    prompt, replayed = await services.prompts.service.add(
        caller, body.title, body.prompt, body.category, body.tags, idempotency_of(caller, key, "prompts", body)
    )
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return PromptRead.of(prompt)


@router.post("/generate", responses=errors(*_TOOL))
async def generate_prompts(
    request: Request, body: GenerateBody, caller: MakingUser, own_key: OwnKey, services: Services
) -> DraftsRead:
    """New prompts of a category, by the text model."""
    call = ToolCall(request_id_of(request), caller, own_key)
    language = body.lang or _language(request)
    return DraftsRead.of(await services.prompts.tools.generate(call, body.category, body.style, body.count, language))


@router.post("/enhance", responses=errors(*_TOOL))
async def enhance_prompt(
    request: Request, body: EnhanceBody, caller: MakingUser, own_key: OwnKey, services: Services
) -> WrittenRead:
    """The same prompt, better, by the text model."""
    call = ToolCall(request_id_of(request), caller, own_key)
    return WrittenRead(prompt=await services.prompts.tools.enhance(call, body.prompt, body.lang))


@router.post("/variations", responses=errors(*_TOOL))
async def vary_prompt(
    request: Request, body: VariationsBody, caller: MakingUser, own_key: OwnKey, services: Services
) -> DraftsRead:
    """Variations of a prompt, by the text model."""
    call = ToolCall(request_id_of(request), caller, own_key)
    return DraftsRead.of(await services.prompts.tools.variations(call, body.prompt, body.count, body.kind))


@router.post("/describe", responses=errors(*_TOOL, UnsupportedImage, StorageUnavailable), openapi_extra=DESCRIBE_BODY)
async def describe_image(
    request: Request, given: DescribeRequest, caller: MakingUser, own_key: OwnKey, services: Services
) -> WrittenRead:
    """A prompt that would make this image, by the text model. The image is kept nowhere."""
    call = ToolCall(request_id_of(request), caller, own_key)
    try:
        prompt = await services.prompts.tools.describe(call, given.image, given.body.lang or _language(request))
    finally:
        given.image.remove()
    return WrittenRead(prompt=prompt)


@router.patch("/{prompt_id}", responses=errors(NotFound, *_WITH_BODY))
async def change_prompt(
    prompt_id: str, body: PromptChangeBody, caller: CurrentCaller, services: Services
) -> PromptRead:
    """Change one of mine; the library's are nobody's to change."""
    return PromptRead.of(await services.prompts.service.change(caller, prompt_id, body.change()))


@router.delete("/{prompt_id}", responses=errors(Unauthorized, NotFound, RateLimited))
async def delete_prompt(prompt_id: str, caller: CurrentCaller, services: Services) -> Success:
    """Delete one of mine, for good."""
    await services.prompts.service.remove(caller, prompt_id)
    return Success()


@router.post("/{prompt_id}/favorite", responses=errors(NotFound, *_WITH_BODY))
async def mark_favorite_prompt(
    prompt_id: str, body: FavoriteRequest, caller: CurrentCaller, services: Services
) -> Success:
    """Mark one of mine, or of the library, as a favorite of mine, or no longer."""
    await services.prompts.service.set_favorite(caller, prompt_id, body.is_favorite)
    return Success()


def _language(request: Request) -> Language:
    return translations_of(request).choose(request.headers.get("accept-language"))
