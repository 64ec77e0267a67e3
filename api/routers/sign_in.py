"""/api/auth: signing in as a guest, with GitHub, with e-mail and password."""

from fastapi import Request

from api.dependencies import Address, Services, count_request
from api.errors import errors
from api.routing import Router
from api.schemas.auth import (
    EmptyBody,
    GitHubCallbackBody,
    GitHubLoginRead,
    LoginBody,
    RegisterBody,
    TokensRead,
)
from api.token_transport import Transport
from api.visitors import GUESTS_TOKEN, SignInVisitor, count_try
from core.errors import Forbidden, PayloadTooLarge, RateLimited, RequestTimeout, Unauthorized
from services.accounts.models import Visitor
from services.limits import Limit

HOUR = 3600

router = Router(prefix="/api/auth", tags=["auth"])

_GUEST_ERRORS = errors(Forbidden, PayloadTooLarge, RequestTimeout, RateLimited)
_ERRORS = errors(Unauthorized, Forbidden, PayloadTooLarge, RequestTimeout, RateLimited)


@router.post("/guest", responses=_GUEST_ERRORS)
async def sign_in_guest(
    request: Request, body: EmptyBody, services: Services, address: Address, transport: Transport
) -> TokensRead:
    """Become a guest: generate within the trial quota; what was made goes after GUEST_RETENTION_HOURS."""
    limit = Limit("guest", services.settings.accounts.guest_rate_per_hour, HOUR)
    await count_request(request, services, address, limit)
    visitor = Visitor(address, request.headers.get("user-agent", ""))
    return transport.give(await services.guests.sign_in(visitor))


@router.post("/github/login", responses=_GUEST_ERRORS)
async def begin_github_login(
    request: Request, body: EmptyBody, services: Services, address: Address
) -> GitHubLoginRead:
    """Where to go to sign in with GitHub; compare `state` with the one that comes back from there."""
    await count_try(request, services, address, "github_login")
    redirect_url, state = await services.github.begin()
    return GitHubLoginRead(redirect_url=redirect_url, state=state)


@router.post("/github/callback", responses=_ERRORS, openapi_extra=GUESTS_TOKEN)
async def finish_github_login(
    request: Request, body: GitHubCallbackBody, services: Services, visitor: SignInVisitor, transport: Transport
) -> TokensRead:
    """Sign in with what GitHub has sent back; a state works once. With a guest's token, they keep what they made."""
    await count_try(request, services, visitor.address, "github_callback")
    return transport.give(await services.github.finish(body.code, body.state, visitor))


@router.post("/register", status_code=201, responses=_ERRORS, openapi_extra=GUESTS_TOKEN)
async def register(
    request: Request, body: RegisterBody, services: Services, visitor: SignInVisitor, transport: Transport
) -> TokensRead:
    """Make an account with e-mail and password. The set-up token that the first start prints makes the first admin."""
    await count_try(request, services, visitor.address, "register")
    tokens = await services.local_accounts.register(body.email, body.password, body.name, body.setup_token, visitor)
    return transport.give(tokens)


@router.post("/login", responses=_ERRORS, openapi_extra=GUESTS_TOKEN)
async def login(
    request: Request, body: LoginBody, services: Services, visitor: SignInVisitor, transport: Transport
) -> TokensRead:
    """Sign in with e-mail and password. With a guest's token, they keep what they made."""
    await count_try(request, services, visitor.address, "login")
    return transport.give(await services.local_accounts.sign_in(body.email, body.password, visitor))
