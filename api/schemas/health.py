"""Health."""

from pydantic import BaseModel, ConfigDict

from api.schemas.common import Timestamp
from services.health import Status


class HealthRead(BaseModel):
    status: Status
    timestamp: Timestamp


class ComponentRead(BaseModel):
    """One part; besides these fields what is particular to it, such as `backend`."""

    model_config = ConfigDict(extra="allow")

    status: Status
    latency_ms: float
    last_check: Timestamp


class HealthDetailRead(BaseModel):
    status: Status
    components: dict[str, ComponentRead]
    version: str
    uptime_seconds: float
