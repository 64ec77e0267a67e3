"""Health, metrics, words."""

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from api.context import translations_of
from api.dependencies import Services
from api.errors import errors
from api.routing import Router
from api.schemas.health import ComponentRead, HealthDetailRead, HealthRead
from core.clock import now_ms, utc
from core.errors import NotFound
from i18n.translate import LANGUAGES

router = Router(tags=["system"])


@router.head("/api/health", include_in_schema=False)
@router.get("/api/health", responses=errors())
async def read_health(services: Services) -> HealthRead:
    """Cheap; 200 whatever it says."""
    return HealthRead(status=await services.health.overall(), timestamp=utc(now_ms()))


@router.get("/api/health/detailed", responses=errors())
async def read_health_detailed(services: Services) -> HealthDetailRead:
    """Every part with its latency; the provider is asked at most once a minute."""
    report = await services.health.report()
    components = {
        name: ComponentRead(
            status=entry.status, latency_ms=entry.latency_ms, last_check=utc(entry.last_check), **dict(entry.details)
        )
        for name, entry in report.items()
    }
    components["api"] = ComponentRead(status="healthy", latency_ms=0, last_check=utc(now_ms()))
    return HealthDetailRead(
        status=await services.health.overall(),
        components=components,
        version=services.health.version,
        uptime_seconds=services.health.uptime_seconds,
    )


@router.head("/api/health/live", include_in_schema=False)
@router.get("/api/health/live", responses=errors())
async def read_live() -> HealthRead:
    """For orchestrators: this process answers."""
    return HealthRead(status="healthy", timestamp=utc(now_ms()))


@router.head("/api/health/ready", include_in_schema=False)
@router.get("/api/health/ready", responses={**errors(), 503: {"model": HealthRead, "description": "we cannot serve"}})
async def read_ready(response: Response, services: Services) -> HealthRead:
    """For orchestrators: 503 when we cannot serve."""
    status = await services.health.overall()
    if status == "unhealthy":
        response.status_code = 503
        response.headers["retry-after"] = "2"
    return HealthRead(status=status, timestamp=utc(now_ms()))


@router.get("/metrics", response_class=Response, responses={**errors(), 200: {"content": {"text/plain": {}}}})
async def read_metrics(services: Services) -> Response:
    """Prometheus: counters of all processes of this machine; tasks of the whole installation."""
    await services.quota.measure()
    measured = await services.task_operations.measure()
    return Response(services.metrics.render(measured), media_type=CONTENT_TYPE_LATEST)


_WORDS: dict[str, object] = {"app": {"name": "Nano Banana Lab"}, "errors": {"fields": {"missing": "is required"}}}


@router.get(
    "/api/i18n/{lang}",
    responses={**errors(NotFound), 200: {"content": {"application/json": {"example": _WORDS}}}},
)
async def read_dictionary(request: Request, lang: str) -> dict[str, object]:
    """The whole dictionary of a language."""
    dictionaries = translations_of(request).dictionaries
    language = next((known for known in LANGUAGES if known == lang), None)
    if language is None:
        raise NotFound(f"language {lang}")
    return dictionaries[language]
