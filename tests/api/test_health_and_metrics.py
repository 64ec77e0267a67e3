"""SPEC section 10: how the service is, and what it counts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from arq.constants import default_queue_name, health_check_key_suffix
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from benchmarks.gemini_standin import GeminiStandin
from core.clients.embedded_redis import running_redis
from services.checks import components
from services.health import HealthService
from tests.conftest import OPERATOR_KEY, OpenService
from tests.support.answers import error_of
from tests.support.service import RunningService

SILENT_ADDRESS = "http://127.0.0.1:9"


async def health(service: RunningService) -> tuple[int, str]:
    response = await service.client.get("/api/health")
    assert set(response.json()) == {"status", "timestamp"}
    return response.status_code, response.json()["status"]


async def samples(service: RunningService) -> dict[str, float]:
    """`name{label=value,…}` to value, labels in order."""
    response = await service.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


@pytest.fixture
async def with_own_redis(open_service: OpenService, tmp_path: Path) -> AsyncIterator[tuple[RunningService, ExitStack]]:
    """A service and its Redis, which stops when the stack is closed."""
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(tmp_path / "own"))
        yield await open_service(REDIS_URL=redis.url), stack


async def test_the_service_is_healthy_with_all_its_parts(service: RunningService, redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.set(default_queue_name + health_check_key_suffix, "a worker was here")
    assert await health(service) == (200, "healthy")
    assert (await service.client.get("/api/health/ready")).json()["status"] == "healthy"


async def test_a_worker_that_still_starts_is_not_missed(service: RunningService) -> None:
    assert await health(service) == (200, "healthy")
    body = (await service.client.get("/api/health/detailed")).json()
    assert body["components"]["worker"]["starting"] is True


async def test_without_a_worker_we_can_serve(service: RunningService) -> None:
    container = service.container
    parts = components(
        container.redis, container.database, container.storage, container.providers, container.task_operations,
        worker_start_seconds=0,
    )  # fmt: skip
    assert await HealthService(parts, "test").overall() == "degraded"


async def test_the_detailed_report_names_every_part(service: RunningService) -> None:
    body = (await service.client.get("/api/health/detailed")).json()
    assert set(body) == {"status", "components", "version", "uptime_seconds"}
    assert set(body["components"]) == {"api", "redis", "r2_storage", "gemini_api", "database", "worker", "tasks"}
    for component in body["components"].values():
        assert {"status", "latency_ms", "last_check"} <= set(component)
        assert component["last_check"].endswith("Z")
    assert body["components"]["r2_storage"]["backend"] == "local"
    assert body["components"]["gemini_api"]["configured"] is False
    assert body["uptime_seconds"] >= 0


async def test_without_redis_we_say_so_and_stay_up(with_own_redis: tuple[RunningService, ExitStack]) -> None:
    service, redis = with_own_redis
    guest = await service.guest()
    assert (await service.client.get("/api/health/ready")).status_code == 200
    redis.close()
    await asyncio.sleep(1.1)  # what was found out a moment ago is good for a second

    assert await health(service) == (200, "unhealthy")
    ready = await service.client.get("/api/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "unhealthy")
    assert int(ready.headers["retry-after"]) > 0
    assert (await service.client.get("/api/health/live")).json()["status"] == "healthy"
    body = (await service.client.get("/api/health/detailed")).json()
    states = {name: component["status"] for name, component in body["components"].items()}
    assert body["status"] == states["redis"] == "unhealthy"
    assert states["database"] == states["r2_storage"] == states["api"] == "healthy"

    # Sessions and quota are closed without it, rate limits open, with a metric that says so.
    for response in (
        await guest.client.get("/api/auth/me"),
        await guest.generate(),
        await service.client.post("/api/auth/guest", json={}),
        await service.client.post("/api/auth/refresh", json={"refresh_token": "x"}),
    ):
        error = error_of(response, 503, "DEPENDENCY_UNAVAILABLE")
        assert error["details"]["component"] == "redis"
        assert response.headers["retry-after"] == str(error["details"]["retry_after"])
        assert "redis.sock" not in response.text
    assert (await samples(service))["rate_limit_failures_total{}"] == 2


async def test_redis_that_comes_back_is_used_again(open_service: OpenService, tmp_path: Path) -> None:
    with running_redis(tmp_path / "own") as redis:
        service = await open_service(REDIS_URL=redis.url)
        guest = await service.guest()
    assert await health(service) == (200, "unhealthy")
    with running_redis(tmp_path / "own"):
        await asyncio.sleep(1.1)
        assert await health(service) == (200, "healthy")
        assert (await guest.client.get("/api/auth/me")).json()["id"] == guest.id


async def test_asking_often_touches_nothing_often(service: RunningService, redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.config_resetstat()
        started = time.monotonic()
        for _ in range(5):
            await asyncio.gather(*(service.client.get("/api/health") for _ in range(20)))
        elapsed = time.monotonic() - started
        statistics = redis.info("commandstats")
        assert isinstance(statistics, dict)
        assert 1 <= statistics["cmdstat_ping"]["calls"] <= elapsed + 1


async def test_the_provider_is_asked_once_a_minute_with_the_operators_key(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    for _ in range(3):
        answers = await asyncio.gather(*(gemini_service.client.get("/api/health/detailed") for _ in range(10)))
        assert {answer.json()["components"]["gemini_api"]["status"] for answer in answers} == {"healthy"}
        await gemini_service.client.get("/api/health")
    (call,) = gemini.requests()
    assert call["method"] == "GET"
    assert call["headers"]["x-goog-api-key"] == OPERATOR_KEY
    assert OPERATOR_KEY not in answers[0].text
    guest = await gemini_service.guest()
    assert await guest.used() == 0


async def test_health_asks_no_provider(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    for path in ("/api/health", "/api/health/live", "/api/health/ready"):
        await gemini_service.client.get(path)
    assert gemini.requests() == []


async def test_a_provider_that_is_away_shows_and_does_not_make_us_unready(open_service: OpenService) -> None:
    service = await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=SILENT_ADDRESS)
    body = (await service.client.get("/api/health/detailed")).json()
    assert body["components"]["gemini_api"]["status"] == "degraded"
    assert (await service.client.get("/api/health/ready")).status_code == 200


async def test_health_is_open_to_all_and_needs_no_token(service: RunningService) -> None:
    for header in ("Bearer nonsense", "Basic dTpw"):
        response = await service.client.get("/api/health", headers={"Authorization": header})
        assert response.status_code == 200


async def test_generations_are_counted_by_mode_provider_and_outcome(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await gemini_service.guest()
    await guest.image(provider="demo")
    await guest.image()
    await guest.image()
    gemini.configure(mode="no_image")
    error_of(await guest.generate(), 502, "NO_IMAGE")
    gemini.configure(mode="safety")
    error_of(await guest.generate(), 400, "CONTENT_BLOCKED")
    error_of(await guest.generate(resolution="8K"), 422, "VALIDATION_ERROR")
    error_of(await guest.generate(provider="made-up"), 422, "VALIDATION_ERROR")

    found = await samples(gemini_service)
    counted = {name: value for name, value in found.items() if name.startswith("generations_total")}
    assert counted == {
        "generations_total{mode=basic,outcome=ok,provider=demo}": 1,
        "generations_total{mode=basic,outcome=ok,provider=gemini}": 2,
        "generations_total{mode=basic,outcome=NO_IMAGE,provider=gemini}": 1,
        "generations_total{mode=basic,outcome=CONTENT_BLOCKED,provider=gemini}": 1,
        "generations_total{mode=basic,outcome=VALIDATION_ERROR,provider=gemini}": 1,
        "generations_total{mode=basic,outcome=VALIDATION_ERROR,provider=none}": 1,
    }
    assert found["provider_call_seconds_count{provider=gemini}"] == 4
    assert found["provider_call_seconds_count{provider=demo}"] == 1
    assert found["provider_call_seconds_sum{provider=gemini}"] > 0
    assert found["generations_running{}"] == 0
    assert found["quota_reservations_total{outcome=committed}"] == 3
    assert found["quota_reservations_total{outcome=released}"] == 2


async def test_the_pool_is_shown(open_service: OpenService) -> None:
    service = await open_service(TRIAL_GLOBAL_QUOTA="40")
    guest = await service.guest()
    await guest.image(resolution="4K")
    assert await guest.used() == 3
    found = await samples(service)
    assert (found["quota_points{kind=used}"], found["quota_points{kind=limit}"]) == (3, 40)


async def test_requests_are_counted_by_route_and_not_by_address(service: RunningService) -> None:
    guest = await service.guest()
    for number in range(3):
        await guest.client.get(f"/api/history/img_{number}")
        await guest.client.get(f"/nothing/{number}")
        await guest.client.request("PROPFIND", "/api/quota")
    found = await samples(service)
    assert found["http_requests_total{method=GET,route=/api/history/{image_id},status=404}"] == 3
    assert found["http_requests_total{method=POST,route=/api/auth/guest,status=200}"] == 1
    assert found["http_requests_total{method=GET,route=unmatched,status=404}"] == 3
    assert found["http_request_duration_seconds_count{route=/api/history/{image_id}}"] == 3
    requests = [name for name in found if name.startswith("http_requests_total")]
    assert all("img_" not in name and "/nothing" not in name for name in requests)
    assert found["http_requests_total{method=OTHER,route=/api/quota,status=405}"] == 3
