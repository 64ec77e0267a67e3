"""The audit of the moderation as admins see it."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.common import MAX_OFFSET, PageRead, RequestModel, ShortText, Timestamp
from api.schemas.history import From, To
from core.clock import from_datetime, utc
from core.paging import Page
from services.moderation.audit_index import AuditEntry, AuditFilter
from services.moderation.models import Decision

CheckDecision = Literal["passed", "blocked", "undecided"]
CheckLayer = Literal["keyword", "ai"]
ANONYMOUS = "anonymous"


class ModerationQuery(RequestModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    decision: CheckDecision | None = Field(None, description="undecided: the text model was away; the prompt passed")
    layer: CheckLayer | None = Field(None, description="the last that spoke, and so the one that blocked")
    user_id: ShortText | None = Field(None, description="whose prompts; `anonymous` for those without an account")
    mode: ShortText | None = Field(None, description="as in the history, or `text` for the prompt tools")
    date_from: From | None = Field(None, description="a date or an RFC 3339 time, inclusive")
    date_to: To | None = Field(None, description="a date, inclusive, or an RFC 3339 time, exclusive")
    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.date_from and self.date_to and self.date_from > self.date_to:
            raise PydanticCustomError("backwards", "date_from is after date_to")
        return self

    def filter(self) -> AuditFilter:
        return AuditFilter(
            decision=None if self.decision is None else Decision(self.decision),
            layer=self.layer,
            user_id=None if self.user_id == ANONYMOUS else self.user_id,
            anonymous=self.user_id == ANONYMOUS,
            mode=self.mode,
            date_from=from_datetime(self.date_from) if self.date_from else None,
            date_to=from_datetime(self.date_to) if self.date_to else None,
        )


class LayerRead(BaseModel):
    layer: CheckLayer
    decision: CheckDecision
    category: str | None
    duration_ms: float


class CheckRead(BaseModel):
    """One check of one prompt."""

    check_id: str
    checked_at: Timestamp
    user_id: str | None = Field(description="null: an anonymous caller")
    request_id: str
    mode: str
    prompt_sha256: str
    prompt: str | None = Field(description="null without AUDIT_LOG_PROMPTS")
    decision: CheckDecision
    layer: CheckLayer = Field(description="the last that spoke")
    category: str | None = Field(description="of a prompt that the text model blocked")
    layers: list[LayerRead]
    duration_ms: float

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        return cls.model_validate(vars(entry) | {"check_id": entry.id, "checked_at": utc(entry.checked_at)})


class ChecksRead(PageRead[CheckRead]):
    @classmethod
    def of(cls, page: Page[AuditEntry]) -> Self:
        return cls.with_items([CheckRead.of(entry) for entry in page.items], page)
