"""/api/auth: guests and sessions."""

from fastapi import APIRouter, Request

from api.dependencies import Address, CurrentCaller, Services, count_request
from api.errors import errors
from api.schemas.auth import AuthConfigRead, EmptyBody, RefreshBody, SessionRead, SessionsRead, TokensRead, UserRead
from api.schemas.common import Success
from core.errors import Forbidden, NotFound, PayloadTooLarge, RateLimited, RequestTimeout, Unauthorized
from i18n.translate import LANGUAGES
from services.accounts.models import Visitor
from services.limits import Limit

HOUR = 3600

router = APIRouter(prefix="/api/auth", tags=["auth"])


@router.get("/config", responses=errors())
async def read_config(services: Services) -> AuthConfigRead:
    """What a page may offer to somebody who is not signed in."""
    settings = services.settings
    return AuthConfigRead(
        github=False,
        local=False,
        guest=settings.accounts.guest_enabled,
        trial=settings.quota.trial_enabled and services.providers.has_trial,
        languages=list(LANGUAGES),
    )


@router.post("/guest", responses=errors(Forbidden, PayloadTooLarge, RequestTimeout, RateLimited))
async def sign_in_guest(request: Request, body: EmptyBody, services: Services, address: Address) -> TokensRead:
    """Become a guest: generate within the trial quota; what was made goes after GUEST_RETENTION_HOURS."""
    limit = Limit("guest", services.settings.accounts.guest_rate_per_hour, HOUR)
    await count_request(request, services, address, limit)
    user_agent = request.headers.get("user-agent", "")
    return TokensRead.of(await services.guests.sign_in(Visitor(address, user_agent)))


@router.get("/me", responses=errors(Unauthorized, RateLimited))
async def read_me(caller: CurrentCaller, services: Services) -> UserRead:
    """Who I am."""
    return UserRead.of(await services.accounts.user(caller.user_id))


@router.post("/refresh", responses=errors(Unauthorized, PayloadTooLarge, RequestTimeout, RateLimited))
async def refresh_tokens(request: Request, body: RefreshBody, services: Services, address: Address) -> TokensRead:
    """Trade a refresh token for new tokens; one that was used before ends its session."""
    limit = Limit("refresh", services.settings.server.rate_limit_requests)
    await count_request(request, services, address, limit)
    return TokensRead.of(await services.accounts.refresh(body.refresh_token))


@router.post("/logout", responses=errors(Unauthorized, RateLimited))
async def logout(caller: CurrentCaller, services: Services) -> Success:
    """End this session; its access token stops working at once."""
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
