"""Sign-in."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.common import RequestModel, Timestamp
from core.clock import utc
from services.accounts.models import Role, Session, Tokens, User


class AuthConfigRead(BaseModel):
    """What a page may offer."""

    github: bool
    local: bool
    guest: bool
    trial: bool
    languages: list[str] = Field(examples=[["en", "zh"]])


class EmptyBody(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {}})


class RefreshBody(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {"refresh_token": "kq3…"}})

    refresh_token: str = Field(min_length=1, max_length=200)


class UserRead(BaseModel):
    id: str
    login: str | None
    name: str | None
    email: str | None
    avatar_url: str | None
    role: Role
    user_folder_id: str = Field(description="16 hex digits; where this user's images lie in storage")
    created_at: Timestamp

    @classmethod
    def of(cls, user: User) -> Self:
        return cls(
            id=user.id,
            login=user.login,
            name=user.name,
            email=user.email,
            avatar_url=user.avatar_url,
            role=user.role,
            user_folder_id=user.folder_id,
            created_at=utc(user.created_at),
        )


class TokensRead(BaseModel):
    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="seconds that the access token lives")
    user: UserRead

    @classmethod
    def of(cls, tokens: Tokens) -> Self:
        return cls(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_in=tokens.expires_in,
            user=UserRead.of(tokens.user),
        )


class SessionRead(BaseModel):
    id: str
    created_at: Timestamp
    last_active: Timestamp
    user_agent: str
    address: str
    current: bool = Field(description="the session that asks")

    @classmethod
    def of(cls, session: Session, current_id: str) -> Self:
        return cls(
            id=session.id,
            created_at=utc(session.created_at),
            last_active=utc(session.last_active),
            user_agent=session.user_agent,
            address=session.address,
            current=session.id == current_id,
        )


class SessionsRead(BaseModel):
    sessions: list[SessionRead]
