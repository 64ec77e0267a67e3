"""/api/admin: what admins see and change."""

from typing import Annotated

from fastapi import Query

from api.dependencies import Admin, Services
from api.errors import errors
from api.routing import Router
from api.schemas.admin import AccountRead, AccountsRead, UserChangeBody, UserQuery
from api.schemas.admin_moderation import ChecksRead, ModerationQuery
from api.schemas.admin_tasks import AdminTasksQuery, AdminTasksRead
from core.errors import Forbidden, NotFound, PayloadTooLarge, RateLimited, RequestTimeout, Unauthorized

router = Router(prefix="/api/admin", tags=["admin"])


@router.get("/users", responses=errors(Unauthorized, Forbidden, RateLimited))
async def list_users(query: Annotated[UserQuery, Query()], admin: Admin, services: Services) -> AccountsRead:
    """Accounts, the newest first."""
    return AccountsRead.of(await services.directory.search(query.filter(), query.limit, query.offset))


@router.get("/tasks", responses=errors(Unauthorized, Forbidden, RateLimited))
async def list_all_tasks(
    query: Annotated[AdminTasksQuery, Query()], admin: Admin, services: Services
) -> AdminTasksRead:
    """Everybody's tasks, the newest first: how they are doing, and nothing of what was asked for or made."""
    return AdminTasksRead.of(await services.task_operations.page(query.filter(), query.limit, query.offset))


@router.get("/moderation", responses=errors(Unauthorized, Forbidden, RateLimited))
async def list_moderation(query: Annotated[ModerationQuery, Query()], admin: Admin, services: Services) -> ChecksRead:
    """What was checked of everybody's prompts, the newest first; a check is here within two seconds."""
    return ChecksRead.of(await services.moderation.checks(query.filter(), query.limit, query.offset))


@router.patch(
    "/users/{user_id}",
    responses=errors(Unauthorized, Forbidden, NotFound, PayloadTooLarge, RequestTimeout, RateLimited),
)
async def change_user(user_id: str, body: UserChangeBody, admin: Admin, services: Services) -> AccountRead:
    """Block an account, or change its role; its live tokens follow at once."""
    return AccountRead.of(await services.directory.change(admin, user_id, body.change()))
