"""/api/auth: what may be offered, who I am, staying signed in, signing out."""

from fastapi import Request

from api.dependencies import Address, CurrentCaller, Services, count_request
from api.errors import errors
from api.routing import Router
from api.schemas.auth import AuthConfigRead, RefreshBody, SessionRead, SessionsRead, TokensRead, UserRead
from api.schemas.common import Success
from api.token_transport import Transport
from core.errors import Forbidden, NotFound, PayloadTooLarge, RateLimited, RequestTimeout, Unauthorized
from i18n.translate import LANGUAGES
from services.limits import Limit

router = Router(prefix="/api/auth", tags=["auth"])


@router.get("/config", responses=errors())
async def read_config(services: Services) -> AuthConfigRead:
    """What a page may offer to somebody who is not signed in."""
    return AuthConfigRead(
        github=services.github.enabled,
        local=services.local_accounts.enabled,
        guest=services.guests.enabled,
        trial=services.settings.quota.trial_enabled and services.providers.has_trial,
        languages=list(LANGUAGES),
    )


@router.get("/me", responses=errors(Unauthorized, RateLimited))
async def read_me(caller: CurrentCaller, services: Services) -> UserRead:
    """Who I am."""
    return UserRead.of(await services.accounts.user(caller.user_id))


@router.post("/refresh", responses=errors(Unauthorized, Forbidden, PayloadTooLarge, RequestTimeout, RateLimited))
async def refresh_tokens(
    request: Request, body: RefreshBody, services: Services, address: Address, transport: Transport
) -> TokensRead:
    """Trade a refresh token, from the body or the cookie, for new tokens; one used before ends its session."""
    limit = Limit("refresh", services.settings.server.rate_limit_requests)
    await count_request(request, services, address, limit)
    refresh_token, back = transport.take(body.refresh_token)
    return back.give(await services.accounts.refresh(refresh_token))


@router.post("/logout", responses=errors(Unauthorized, Forbidden, RateLimited))
async def logout(caller: CurrentCaller, services: Services, transport: Transport) -> Success:
    """End this session; its access token stops working at once."""
    transport.end()
    await services.accounts.end_session(caller, caller.session_id)
    return Success()


@router.get("/sessions", responses=errors(Unauthorized, RateLimited))
async def list_sessions(caller: CurrentCaller, services: Services) -> SessionsRead:
    """Where I am signed in, the last used first."""
    sessions = await services.accounts.sessions(caller)
    return SessionsRead(sessions=[SessionRead.of(session, caller.session_id) for session in sessions])


@router.delete("/sessions/{session_id}", responses=errors(Unauthorized, NotFound, RateLimited))
async def end_session(session_id: str, caller: CurrentCaller, services: Services) -> Success:
    """Sign one of my sessions out."""
    await services.accounts.end_session(caller, session_id)
    return Success()
