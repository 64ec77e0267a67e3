"""/api/auth: what belongs to my account: my own Google key, all of it as a file, leaving."""

from typing import Any

from fastapi import Request, Response

from api.dependencies import BaseUrl, CurrentCaller, Services, checked_key, count_request
from api.errors import errors
from api.routing import Router
from api.schemas.auth import AccountExportRead, OwnKeyBody, OwnKeyRead
from api.schemas.chat import describe_chat
from api.schemas.common import Success
from api.schemas.history import ImageDetailRead
from api.schemas.prompts import PromptsExportRead
from api.streams import streamed_file
from api.token_transport import Transport
from core.clock import now_ms, utc_day
from core.errors import PayloadTooLarge, RateLimited, RequestTimeout, StorageUnavailable, Unauthorized
from services.chat.models import Conversation
from services.history.models import Image
from services.limits import Limit
from services.providers.errors import (
    InvalidApiKey,
    ProviderConnection,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)

router = Router(prefix="/api/auth", tags=["auth"])

_ZIP: dict[str, Any] = {
    "description": "a zip of `account.json`, `prompts.json`, `chats/…`, `images/…` and `metadata.json`",
    "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
}
_KEY_ERRORS = errors(
    Unauthorized, InvalidApiKey, ProviderOverloaded, ProviderUnavailable, ProviderTimeout, ProviderRateLimited,
    ProviderConnection, ProviderRejected, PayloadTooLarge, RequestTimeout, RateLimited,
)  # fmt: skip


@router.put("/api-key", responses=_KEY_ERRORS)
async def save_api_key(request: Request, body: OwnKeyBody, caller: CurrentCaller, services: Services) -> OwnKeyRead:
    """Use my own Google key from now on, until this session ends. Google is asked first whether it takes the key."""
    limit = Limit("api_key", services.settings.accounts.login_rate_per_minute)
    await count_request(request, services, caller.user_id, limit)
    masked = await services.own_keys.save(caller, checked_key(body.api_key.get_secret_value()))
    return OwnKeyRead.of(masked)


@router.get("/api-key", responses=errors(Unauthorized, RateLimited))
async def read_api_key(caller: CurrentCaller) -> OwnKeyRead:
    """Whether there is a key of mine, and its end; never the key itself."""
    return OwnKeyRead.of(caller.masked_key)


@router.delete("/api-key", responses=errors(Unauthorized, RateLimited))
async def forget_api_key(caller: CurrentCaller, services: Services) -> OwnKeyRead:
    """Forget my own key."""
    await services.own_keys.forget(caller)
    return OwnKeyRead.of("")


@router.get(
    "/me/export",
    response_class=Response,
    responses={**errors(Unauthorized, RateLimited, StorageUnavailable), 200: _ZIP},
)
async def export_me(caller: CurrentCaller, services: Services, base_url: BaseUrl) -> Response:
    """All that I have, as a zip made while it is sent: account, sessions, keys, prompts, chats, history, images."""
    user = await services.accounts.user(caller.user_id)
    sessions, keys = await services.accounts.sessions(caller), await services.service_keys.of(caller)
    account = AccountExportRead.of(user, sessions, keys, caller.session_id)

    def describe(image: Image) -> dict[str, Any]:
        return ImageDetailRead.of(image, services.links, base_url, now_ms()).model_dump(mode="json")

    def describe_talk(talk: Conversation) -> dict[str, object]:
        return describe_chat(talk, services.links, base_url)

    prompts = PromptsExportRead.of(await services.prompts.service.everything(caller))
    files = {
        "account.json": account.model_dump_json(indent=2).encode(),
        "prompts.json": prompts.model_dump_json(indent=2).encode(),
    }
    pieces = services.account_export.stream(caller, files, describe, describe_talk)
    return await streamed_file(pieces, name=f"account-{utc_day(now_ms())}.zip", media_type="application/zip")


@router.delete("/me", responses=errors(Unauthorized, RateLimited))
async def delete_me(caller: CurrentCaller, services: Services, transport: Transport) -> Success:
    """Delete my account and everything of mine with it. There is no way back."""
    transport.end()
    await services.departures.leave(caller.user_id)
    return Success()
