"""Watching a task."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from api.schemas.common import RequestModel, Timestamp


class EventsQuery(RequestModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    token: SecretStr | None = Field(None, description="of `events-token`, where no header can be sent")
    last_event_id: str = Field("", description="as `Last-Event-ID`, which goes before it")


class EventsTokenRead(BaseModel):
    token: str = Field(description="for `?token=`; reads the events of this task alone")
    expires_at: Timestamp
