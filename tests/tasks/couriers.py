"""Couriers of webhooks beside a service, as its workers have them, with terms that suit a test; and whom they tell."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from core.clients.url_guard import Resolver
from core.metrics import Metrics
from core.settings import load_settings
from services.container import Container, open_container
from services.webhooks.courier import DeliveryTerms
from services.webhooks.schedule import RetrySchedule
from tests.support.databases import databases
from tests.support.receiver import Receiver
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually
from tests.tasks.workers import WORK_SECONDS, cancel, read, submit
from tests.webhooks.receiving import PLAIN_SECRET

# A courier looks twice a second; a try that is due in between would be left out.
SOON = RetrySchedule(offsets=(0.0, 0.6, 1.2, 1.8, 2.4), jitter=0.0)


@asynccontextmanager
async def opened(
    service: RunningService,
    settings: Mapping[str, str],
    *,
    schedule: RetrySchedule = SOON,
    try_seconds: float = 20.0,
    resolver: Resolver | None = None,
) -> AsyncIterator[Container]:
    """Another process's container over the data of a service."""
    redis_url = service.container.settings.redis.redis_url
    assert redis_url is not None
    own = {"DATA_DIR": str(service.data_dir), "REDIS_URL": redis_url.get_secret_value()}
    environment = {**settings, **databases.settings(service.data_dir), **own}
    terms = DeliveryTerms(schedule, resolver, try_seconds)
    async with open_container(load_settings(environment), Metrics(), terms=terms) as container:
        yield container


@asynccontextmanager
async def delivering(container: Container) -> AsyncIterator[None]:
    """What its worker would do with webhooks."""
    loop = asyncio.create_task(container.webhook_courier.run())
    try:
        yield
    finally:
        loop.cancel()
        await asyncio.wait([loop])
        await container.webhook_courier.stop(0)


async def ended(guest: Guest, url: str, secret: str = PLAIN_SECRET.get_secret_value(), **fields: str) -> str:
    """A task that is cancelled before anybody runs it, of which `url` is to be told. Answers its id."""
    task_id = await submit(guest, fields={"callback_url": url, "webhook_secret": secret, **fields})
    assert (await cancel(guest, task_id)).status_code == 200
    return task_id


async def webhook_of(guest: Guest, task_id: str) -> dict[str, Any]:
    webhook: dict[str, Any] = (await read(guest, task_id))["webhook"]
    return webhook


async def until_told(
    guest: Guest, task_id: str, state: str = "delivered", seconds: float = WORK_SECONDS
) -> dict[str, Any]:
    """The webhook of a task once it is in this state."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found[:] = [await webhook_of(guest, task_id)]
        return bool(found[0]["state"] == state)

    assert await eventually(there, seconds), found
    return found[0]


async def until_received(receiver: Receiver, count: int, seconds: float = WORK_SECONDS) -> None:
    async def there() -> bool:
        return len(receiver.received) >= count

    assert await eventually(there, seconds), receiver.received
