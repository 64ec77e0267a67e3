"""Who is about to sign in, and how often they may try."""

from typing import Annotated, Any

from fastapi import Depends, Request

from api.dependencies import Address, Bearer, Services, access_token, count_request, no_other_scheme
from services.accounts.models import Visitor
from services.container import Container
from services.limits import Limit

# Beside the routes' own way in: a guest's token, so that they keep what they made.
GUESTS_TOKEN: dict[str, Any] = {"security": [{}]}


async def visitor_of(request: Request, services: Services, bearer: Bearer, address: Address) -> Visitor:
    """Raises Unauthorized for a token that is none any more: what its guest made is not to be lost by an oversight."""
    user_agent, guest_id = request.headers.get("user-agent", ""), None
    if bearer is None:
        no_other_scheme(request)
    else:
        caller = await services.accounts.authenticate(access_token(bearer), address=address)
        guest_id = caller.user_id if caller.role == "guest" else None
    return Visitor(address, user_agent, guest_id)


SignInVisitor = Annotated[Visitor, Depends(visitor_of)]


async def count_try(request: Request, services: Container, address: str, name: str) -> None:
    """Count one try from this address. Raises RateLimited."""
    await count_request(request, services, address, Limit(name, services.settings.accounts.login_rate_per_minute))
