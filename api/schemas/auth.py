"""Sign-in."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.schemas.common import PlainText, RequestModel, SecretText, ShortText, Timestamp
from api.schemas.service_keys import ServiceKeyRead
from core.clock import utc
from services.accounts.models import Role, ServiceKey, Session, Tokens, User
from services.accounts.own_keys import PROVIDER

MAX_EMAIL_CHARACTERS = 254
MIN_PASSWORD_CHARACTERS = 8  # NIST SP 800-63B; what it is made of is nobody's business
MAX_PASSWORD_CHARACTERS = 200

# Nothing is sent to these addresses, and a house of one's own may well be called `nas.local`. The list is the library's
# own switch for that; it refuses such names whatever it is asked for.
SPECIAL_USE_DOMAIN_NAMES.clear()


def _email(value: str) -> str:
    try:
        return validate_email(value, check_deliverability=False, globally_deliverable=False).normalized
    except EmailNotValidError as error:
        raise PydanticCustomError("bad_format", "no e-mail address") from error


Email = Annotated[PlainText, Field(min_length=1, max_length=MAX_EMAIL_CHARACTERS), AfterValidator(_email)]


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

    refresh_token: str | None = Field(
        None, min_length=1, max_length=200, description="left out: the one in the cookie `nbl_refresh`"
    )


class GitHubLoginRead(BaseModel):
    redirect_url: str = Field(description="GitHub's authorize page")
    state: str = Field(description="works once, for 10 minutes; a browser compares it with the one that comes back")


class GitHubCallbackBody(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {"code": "9d2c…", "state": "hV0…"}})

    code: PlainText = Field(min_length=1, max_length=200)
    state: PlainText = Field(min_length=1, max_length=100)


class LoginBody(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={"example": {"email": "ada@example.org", "password": "a long and easy sentence"}}
    )

    email: Email
    password: SecretText = Field(min_length=1, max_length=MAX_PASSWORD_CHARACTERS)


class RegisterBody(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={"example": {"email": "ada@example.org", "password": "a long and easy sentence"}}
    )

    email: Email
    password: SecretText = Field(
        min_length=MIN_PASSWORD_CHARACTERS,
        max_length=MAX_PASSWORD_CHARACTERS,
        description="8–200 characters, of any kind",
    )
    name: ShortText | None = None
    setup_token: PlainText | None = Field(
        None, min_length=1, max_length=100, description="makes the first admin; the first start prints it"
    )


class OwnKeyBody(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {"api_key": "AIzaSyExampleOfAKey0000000000000000000"}})

    api_key: SecretText = Field(min_length=1, max_length=200)


class OwnKeyRead(BaseModel):
    """The caller's own key, as far as it is shown."""

    configured: bool
    masked: str | None = Field(description="its last four characters")
    provider: str

    @classmethod
    def of(cls, masked: str) -> Self:
        return cls(configured=bool(masked), masked=masked or None, provider=PROVIDER)


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
    refresh_token: str | None = Field(description="null when it comes in the cookie `nbl_refresh`")
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="seconds that the access token lives")
    user: UserRead

    @classmethod
    def of(cls, tokens: Tokens, *, refresh_in_body: bool = True) -> Self:
        return cls(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token if refresh_in_body else None,
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


class AccountExportRead(BaseModel):
    """`account.json` of an export."""

    account: UserRead
    sessions: list[SessionRead]
    service_keys: list[ServiceKeyRead]

    @classmethod
    def of(cls, user: User, sessions: list[Session], keys: Sequence[ServiceKey], current_id: str) -> Self:
        return cls(
            account=UserRead.of(user),
            sessions=[SessionRead.of(session, current_id) for session in sessions],
            service_keys=[ServiceKeyRead.of(key) for key in keys],
        )
