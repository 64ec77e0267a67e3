"""/api/admin: what admins see and change."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.dependencies import Admin, Services
from api.errors import errors
from api.schemas.admin import AccountRead, AccountsRead, UserChangeBody, UserQuery
from core.errors import Forbidden, NotFound, PayloadTooLarge, RateLimited, RequestTimeout, Unauthorized

router = APIRouter(prefix="/api/admin", tags=["admin"])


@router.get("/users", responses=errors(Unauthorized, Forbidden, RateLimited))
async def list_users(query: Annotated[UserQuery, Query()], admin: Admin, services: Services) -> AccountsRead:
    """Accounts, the newest first."""
    return AccountsRead.of(await services.directory.search(query.filter(), query.limit, query.offset))


@router.patch(
    "/users/{user_id}",
    responses=errors(Unauthorized, Forbidden, NotFound, PayloadTooLarge, RequestTimeout, RateLimited),
)
async def change_user(user_id: str, body: UserChangeBody, admin: Admin, services: Services) -> AccountRead:
    """Block an account, or change its role; its live tokens follow at once."""
    return AccountRead.of(await services.directory.change(admin, user_id, body.change()))
