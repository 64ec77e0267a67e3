"""Links to image bytes."""

from pydantic import ConfigDict, Field

from api.schemas.common import RequestModel

MAX_EXPIRY = 2**40


class LinkQuery(RequestModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    exp: int | None = Field(None, ge=0, le=MAX_EXPIRY, description="end of the link, seconds since 1970")
    sig: str | None = Field(None, max_length=100, description="signature of the link")
    download: bool = Field(False, description="answer as a file with a name")
