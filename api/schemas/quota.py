"""The quota."""

from typing import Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field

from api.schemas.common import RequestModel, Timestamp
from services.quota.models import QuotaStatus

CheckedMode = Literal["basic", "batch", "chat", "edit", "search", "blend", "style", "text"]

CheckedResolution = Literal["512", "1K", "2K", "4K"]

QuotaRefusal = Literal["cooldown", "pool", "guest_share", "mode", "api_key_required"]


class UsageRead(BaseModel):
    used: int = Field(description="what is reserved included")
    limit: int
    remaining: int


class ModeUsageRead(UsageRead):
    name: str
    cost: int = Field(description="points an image")


class CooldownRead(BaseModel):
    active: bool
    remaining_seconds: float


class QuotaRead(BaseModel):
    is_trial_mode: bool = Field(description="the caller is on the operator's key and metered")
    pool: UsageRead = Field(alias="global", description="points of the day, shared by all")
    modes: dict[str, ModeUsageRead] = Field(description="the caller's own, in images")
    guest_share: UsageRead | None = Field(None, description="points for guests of one address together")
    cooldown: CooldownRead
    resets_at: Timestamp

    @classmethod
    def of(cls, status: QuotaStatus) -> Self:
        return cls.model_validate(status.as_details())

    @staticmethod
    def json_of(status: QuotaStatus) -> bytes:
        """The body, without a model that is built only to be taken apart."""
        return orjson.dumps(status.as_details())


class QuotaCheckBody(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {"mode": "basic", "resolution": "1K", "count": 1}})

    mode: CheckedMode
    resolution: CheckedResolution | None = Field(None, description="default: DEFAULT_RESOLUTION")
    count: int = Field(1, ge=1, le=10)


class QuotaCheckRead(BaseModel):
    can_generate: bool
    reason: QuotaRefusal | None = None
    quota_info: QuotaRead
