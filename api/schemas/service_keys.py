"""Service keys."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.schemas.common import RequestModel, ShortText, Timestamp
from core.clock import from_datetime, utc
from services.accounts.models import SCOPES, Scope, ServiceKey
from services.accounts.service_keys import PREFIX, KeyWish

MAX_DAILY_POINTS = 1_000_000


def _moment(value: Any) -> Any:
    """An RFC 3339 time with its zone, in UTC."""
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise PydanticCustomError("bad_format", "no RFC 3339 time") from error
    raise PydanticCustomError("bad_format", "no time zone")


class ServiceKeyBody(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "nightly posters", "scopes": ["generate", "read"], "daily_points": 10}}
    )

    name: ShortText
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(SCOPES))] = Field(
        list(SCOPES), description="what the key opens; left out: both"
    )
    expires_at: Annotated[datetime, BeforeValidator(_moment)] | None = Field(
        None, description="RFC 3339 with a zone, in the future; left out: never"
    )
    daily_points: int | None = Field(
        None, ge=1, le=MAX_DAILY_POINTS, description="at most so many points a UTC day; left out: no cap of its own"
    )

    def wish(self) -> KeyWish:
        return KeyWish(
            name=self.name,
            scopes=tuple(scope for scope in SCOPES if scope in self.scopes),
            expires_at=None if self.expires_at is None else from_datetime(self.expires_at),
            daily_points=self.daily_points,
        )


class ServiceKeyRead(BaseModel):
    id: str
    name: str
    masked: str = Field(description="its last four characters")
    scopes: list[Scope]
    expires_at: Timestamp | None
    daily_points: int | None
    created_at: Timestamp
    last_used_at: Timestamp | None = Field(description="to the minute")

    @classmethod
    def of(cls, key: ServiceKey) -> Self:
        return cls(**_fields(key))


class NewServiceKeyRead(ServiceKeyRead):
    key: str = Field(description="the key itself, shown this once")

    @classmethod
    def made(cls, key: ServiceKey, text: str) -> Self:
        return cls(**_fields(key), key=text)


class ServiceKeysRead(BaseModel):
    service_keys: list[ServiceKeyRead] = Field(description="the newest first")

    @classmethod
    def of(cls, keys: Sequence[ServiceKey]) -> Self:
        return cls(service_keys=[ServiceKeyRead.of(key) for key in keys])


def _fields(key: ServiceKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "masked": f"{PREFIX}****{key.last_characters}",
        "scopes": list(key.scopes),
        "expires_at": None if key.expires_at is None else utc(key.expires_at),
        "daily_points": key.daily_points,
        "created_at": utc(key.created_at),
        "last_used_at": None if key.last_used_at is None else utc(key.last_used_at),
    }
