"""Accounts as admins see them."""

from typing import Self

from pydantic import ConfigDict, Field

from api.schemas.auth import UserRead
from api.schemas.common import MAX_OFFSET, PageRead, RequestModel, ShortText, Timestamp
from core.clock import utc
from core.paging import Page
from services.accounts.directory import UserChange
from services.accounts.models import Role, User, UserFilter


class UserQuery(RequestModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    search: ShortText | None = Field(None, description="in login, name, e-mail and id")
    role: Role | None = None
    blocked: bool | None = None
    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)

    def filter(self) -> UserFilter:
        return UserFilter(search=self.search, role=self.role, blocked=self.blocked)


class UserChangeBody(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {"blocked": False}})

    role: Role | None = Field(None, description="user or admin; left out: as it is")
    blocked: bool | None = Field(None, description="true keeps somebody out; left out: as it is")

    def change(self) -> UserChange:
        return UserChange(role=self.role, blocked=self.blocked)


class AccountRead(UserRead):
    """An account with what only admins see."""

    github_id: int | None
    blocked: bool
    blocked_at: Timestamp | None

    @classmethod
    def of(cls, user: User) -> Self:
        return cls(
            **UserRead.of(user).model_dump(),
            github_id=user.github_id,
            blocked=user.blocked_at is not None,
            blocked_at=None if user.blocked_at is None else utc(user.blocked_at),
        )


class AccountsRead(PageRead[AccountRead]):
    @classmethod
    def of(cls, page: Page[User]) -> Self:
        return cls.with_items([AccountRead.of(user) for user in page.items], page)
