"""/api/auth/service-keys: the keys that my programs call with."""

from fastapi import Request

from api.dependencies import AccountHolder, Services, count_request
from api.errors import errors
from api.routing import Router
from api.schemas.common import Success
from api.schemas.service_keys import NewServiceKeyRead, ServiceKeyBody, ServiceKeysRead
from core.errors import Forbidden, NotFound, PayloadTooLarge, RateLimited, RequestTimeout, Unauthorized
from services.limits import Limit

router = Router(prefix="/api/auth/service-keys", tags=["auth"])


@router.get("", responses=errors(Unauthorized, Forbidden, RateLimited))
async def list_service_keys(caller: AccountHolder, services: Services) -> ServiceKeysRead:
    """My service keys, as far as they are shown; never the keys themselves."""
    return ServiceKeysRead.of(await services.service_keys.of(caller))


@router.post(
    "", status_code=201, responses=errors(Unauthorized, Forbidden, PayloadTooLarge, RequestTimeout, RateLimited)
)
async def create_service_key(
    request: Request, body: ServiceKeyBody, caller: AccountHolder, services: Services
) -> NewServiceKeyRead:
    """A new key for a program of mine, shown this once. Not for guests; at most 50."""
    limit = Limit("service_keys", services.settings.server.rate_limit_requests)
    await count_request(request, services, caller.user_id, limit)
    return NewServiceKeyRead.made(*await services.service_keys.create(caller, body.wish()))


@router.delete("/{key_id}", responses=errors(Unauthorized, Forbidden, NotFound, RateLimited))
async def revoke_service_key(key_id: str, caller: AccountHolder, services: Services) -> Success:
    """The key stops working at once."""
    await services.service_keys.revoke(caller, key_id)
    return Success()
