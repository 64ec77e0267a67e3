"""A guest who gets everything wrong."""

from collections.abc import AsyncIterator

import pytest
from redis import Redis
from sqlalchemy import func, select

from services.history.store import images
from tests.api.asking import SMALL_BODY_BYTES
from tests.conftest import OpenService
from tests.support.service import Guest


@pytest.fixture
async def guest(open_service: OpenService, redis_url: str) -> AsyncIterator[Guest]:
    """A guest of a service that must have made, kept and charged nothing when the test is over."""
    service = await open_service(RATE_LIMIT_REQUESTS="10000", MAX_REQUEST_BYTES=str(SMALL_BODY_BYTES))
    guest = await service.guest()
    yield guest
    assert await guest.used() == 0
    assert (await guest.history())["total"] == 0
    assert service.stored("users/**/*") == service.stored("unlisted/**/*") == []
    rows = await service.container.database.read(
        lambda connection: connection.execute(select(func.count()).select_from(images)).scalar_one()
    )
    assert rows == 0
    with Redis.from_url(redis_url) as redis:
        assert list(redis.scan_iter("quota:reservation*")) == []
