"""How the service and its parts are. Answers are kept for a while, so that asking often costs nothing."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from redis.exceptions import RedisError

from core.clock import Milliseconds, now_ms
from core.errors import AppError
from core.logging import get_logger

Status = Literal["healthy", "degraded", "unhealthy"]
# What is particular to a part: facts, and counts by some name.
Details = Mapping[str, str | int | float | bool | Mapping[str, int]]

CHECK_KEPT_SECONDS = 1.0
CHECK_TIMEOUT_SECONDS = 3.0

log = get_logger(__name__)


@dataclass(frozen=True)
class ComponentHealth:
    status: Status
    latency_ms: float
    last_check: Milliseconds
    details: Details = field(default_factory=dict)


@dataclass(frozen=True)
class Component:
    """One part. `check` raises when it is broken and answers details for the report; without a `vital` part we cannot
    serve. `kept_seconds`: how long an answer is good. `in_overall` False: only the detailed report asks for it.
    """

    name: str
    check: Callable[[], Awaitable[Details]]
    vital: bool
    kept_seconds: float = CHECK_KEPT_SECONDS
    in_overall: bool = True


class HealthService:
    def __init__(self, components: list[Component], version: str) -> None:
        self._components = components
        self._known: dict[str, ComponentHealth] = {}
        self._locks = {component.name: asyncio.Lock() for component in components}
        self._started = time.monotonic()
        self.version = version

    @property
    def uptime_seconds(self) -> float:
        return round(time.monotonic() - self._started, 1)

    async def overall(self) -> Status:
        """Unhealthy: we cannot serve. Degraded: something is missing."""
        asked = [component for component in self._components if component.in_overall]
        found = await self._all(asked)
        if any(component.vital and found[component.name].status == "unhealthy" for component in asked):
            return "unhealthy"
        return "healthy" if all(entry.status == "healthy" for entry in found.values()) else "degraded"

    async def report(self) -> dict[str, ComponentHealth]:
        return await self._all(self._components)

    async def _all(self, components: list[Component]) -> dict[str, ComponentHealth]:
        results = await asyncio.gather(*(self._current(component) for component in components))
        return dict(zip((component.name for component in components), results, strict=True))

    async def _current(self, component: Component) -> ComponentHealth:
        known = self._fresh(component)
        if known is not None:
            return known
        async with self._locks[component.name]:
            known = self._fresh(component)
            if known is None:
                known = self._known[component.name] = await self._check(component)
            return known

    def _fresh(self, component: Component) -> ComponentHealth | None:
        known = self._known.get(component.name)
        if known is None or now_ms() - known.last_check > component.kept_seconds * 1000:
            return None
        return known

    async def _check(self, component: Component) -> ComponentHealth:
        started = time.perf_counter()
        status: Status = "healthy"
        details: Details = {}
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                details = await component.check()
        except (AppError, RedisError, TimeoutError, OSError) as error:
            status = "unhealthy" if component.vital else "degraded"
            log.warning("component is not healthy", component=component.name, reason=repr(error))
        latency = round((time.perf_counter() - started) * 1000, 2)
        return ComponentHealth(status, latency, now_ms(), details)
