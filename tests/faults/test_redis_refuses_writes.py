"""A Redis that reads but refuses to write, its disk full or its replicas away: who only looks is let through."""

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.faults.support import metric
from tests.support.service import RunningService


@pytest.fixture
def refusing(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as redis:
        yield redis
        redis.config_set("min-replicas-to-write", 0)


async def test_reads_go_on_uncounted_and_nothing_is_made(service: RunningService, refusing: Redis) -> None:
    guest = await service.guest()
    await guest.image("a lighthouse")
    refusing.config_set("min-replicas-to-write", 1)

    for path in ("/api/history", "/api/quota", "/api/auth/me"):
        assert (await guest.client.get(path)).status_code == 200, path
    made = await guest.generate("a second lighthouse")
    assert (made.status_code, made.json()["error"]["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
    assert "retry-after" in made.headers
    assert metric((await guest.client.get("/metrics")).text, "rate_limit_failures_total") >= 4

    refusing.config_set("min-replicas-to-write", 0)
    assert (await guest.generate("a second lighthouse")).status_code == 200
