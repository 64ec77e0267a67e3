"""What handlers ask for by type: the services, the caller, the address, the base of links."""

import ipaddress
import re
from functools import lru_cache
from typing import Annotated

from fastapi import Depends, Header, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from pydantic import SecretStr
from structlog.contextvars import bind_contextvars

from api.context import container_of, services_of
from api.lean_route import only_documented
from core.errors import Forbidden, Unauthorized
from services.accounts.models import Caller
from services.accounts.service_keys import PREFIX
from services.container import Container
from services.limits import Limit
from services.providers.errors import InvalidApiKey

READS_PER_WRITE = 10
MAX_KNOWN_ADDRESSES = 4096
GUEST_IPV6_PREFIX = 64
_SANE_KEY = re.compile(r"[\x21-\x7e]{10,200}")
_PLAIN_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?")

BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="access token of /api/auth")
_own_key_says = "the caller's own Google key"
_own_key = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="ownKey", description=_own_key_says)

Services = Annotated[Container, Depends(container_of)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]


def client_address(request: Request) -> str:
    """Where the request came from, as uvicorn believes the proxies in TRUSTED_PROXIES."""
    client = request.scope.get("client")
    return _counted_as(client[0] if client else "")


@lru_cache(MAX_KNOWN_ADDRESSES)
def _counted_as(host: str) -> str:
    """An IPv6 customer has a whole /64, so that is what counts as one address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, GUEST_IPV6_PREFIX), strict=False).network_address)
    return str(address)


async def address_of_client(request: Request) -> str:
    return client_address(request)


Address = Annotated[str, Depends(address_of_client)]


async def base_url(request: Request) -> str:
    """What links in answers start with: PUBLIC_BASE_URL, else where the request was sent."""
    return services_of(request).settings.server.public_base_url or _sent_to(request)


def _sent_to(request: Request) -> str:
    host, scope = request.headers.get("host", ""), request.scope
    if _PLAIN_HOST.fullmatch(host) and not scope.get("root_path"):
        return f"{scope['scheme']}://{host}"  # what follows says, at a tenth of the time
    return str(request.base_url).rstrip("/")


BaseUrl = Annotated[str, Depends(base_url)]


def access_token(bearer: HTTPAuthorizationCredentials) -> str:
    """Raises Unauthorized for a service key, which is for programs and their routes alone."""
    if bearer.credentials.startswith(PREFIX):
        raise Unauthorized("service_keys_open_api_v1_alone")
    return bearer.credentials


async def admitted(request: Request, services: Container, bearer: HTTPAuthorizationCredentials, limit: str) -> Caller:
    """Identify and count in one step; the answer's headers tell what is left."""
    token, counted = access_token(bearer), limit_of(services, limit)
    caller, allowance = await services.accounts.admit(token, counted, address=client_address(request))
    remember(request, caller.user_id)
    request.state.allowance = allowance
    allowance.enforce()
    return caller


def remember(request: Request, user_id: str) -> None:
    request.state.user_id = user_id
    bind_contextvars(user_id=user_id)


def limit_of(services: Container, name: str) -> Limit:
    """`read`, or `default` for what makes something."""
    return Limit(name, services.settings.server.rate_limit_requests * (READS_PER_WRITE if name == "read" else 1))


def no_other_scheme(request: Request) -> None:
    """Raises Unauthorized for a caller who is sure to be somebody, in a way that we do not know."""
    if request.headers.get("authorization"):
        raise Unauthorized("not_a_bearer_token")


async def count_request(request: Request, services: Container, who: str, limit: Limit) -> None:
    """Count against a limit; the answer's headers tell what is left. Raises RateLimited."""
    request.state.allowance = await services.limiter.hit(who, limit)
    request.state.allowance.enforce()


async def reading_caller(request: Request, bearer: Bearer) -> Caller:
    """A signed-in caller on a route that makes nothing."""
    if bearer is None:
        no_other_scheme(request)
        raise Unauthorized
    return await admitted(request, services_of(request), bearer, "read")


async def admit_reader(request: Request, services: Container, user_id: str) -> None:
    """Count somebody whom something else than their own token stands for like any who reads."""
    remember(request, user_id)
    await count_request(request, services, user_id, limit_of(services, "read"))


async def making_caller(request: Request, bearer: Bearer) -> Caller | None:
    """A caller, or nobody, on a route that makes something."""
    services = services_of(request)
    if bearer is None:
        no_other_scheme(request)
        await count_request(request, services, client_address(request), limit_of(services, "default"))
        return None
    return await admitted(request, services, bearer, "default")


async def linked_caller(request: Request, services: Services, bearer: Bearer) -> Caller | None:
    """A caller, or nobody, on a route whose signed links open without one; not counted."""
    if bearer is None:
        no_other_scheme(request)
        return None
    caller = await services.accounts.authenticate(access_token(bearer), address=client_address(request))
    remember(request, caller.user_id)
    return caller


async def making_user(caller: Annotated[Caller | None, Depends(making_caller)]) -> Caller:
    """A signed-in caller on a route that makes something."""
    if caller is None:
        raise Unauthorized
    return caller


CurrentCaller = Annotated[Caller, Depends(reading_caller)]
MakingUser = Annotated[Caller, Depends(making_user)]
MakingCaller = Annotated[Caller | None, Depends(making_caller)]
LinkedCaller = Annotated[Caller | None, Depends(linked_caller)]


async def reading_admin(caller: CurrentCaller) -> Caller:
    """Raises Forbidden for anybody else."""
    if not caller.is_admin:
        raise Forbidden("admins_only")
    return caller


async def reading_account(caller: CurrentCaller) -> Caller:
    """Raises Forbidden for a guest."""
    if caller.role == "guest":
        raise Forbidden("accounts_only")
    return caller


Admin = Annotated[Caller, Depends(reading_admin)]
AccountHolder = Annotated[Caller, Depends(reading_account)]


def checked_key(key: str) -> SecretStr:
    """A Google key. Raises InvalidApiKey for what cannot be one, so that it is never sent anywhere."""
    if key.startswith(PREFIX):
        raise InvalidApiKey("a service key", reason="service_keys_open_api_v1_alone")
    if not _SANE_KEY.fullmatch(key):
        raise InvalidApiKey("not a Google key by its form")
    return SecretStr(key)


async def own_key(
    request: Request, caller: MakingCaller, key: Annotated[str | None, Security(_own_key)]
) -> SecretStr | None:
    """The caller's own Google key: from this request, else the saved one. Raises InvalidApiKey."""
    if key:
        return checked_key(key)
    return None if caller is None else services_of(request).own_keys.of(caller)


async def key_beside(
    services: Services,
    caller: CurrentCaller,
    key: Annotated[str | None, Header(alias="X-API-Key", description=_own_key_says)] = None,
) -> SecretStr | None:
    """The same on a route where it does not stand in for a token, and so is no way of signing in."""
    return checked_key(key) if key else services.own_keys.of(caller)


@only_documented
async def key_documented(key: Annotated[SecretStr | None, Depends(key_beside)]) -> None:
    """What a lean route that takes `key_beside` says of it."""


OwnKey = Annotated[SecretStr | None, Depends(own_key)]
KeyBeside = Annotated[SecretStr | None, Depends(key_beside)]
