"""Many tasks while workers and Redis are killed: each is done, each image is stored once and charged once."""

import asyncio
import random
import time

import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.conftest import OPERATOR_KEY
from tests.faults.support import OwnRedis
from tests.faults.task_load import (
    Crew,
    assert_books_balance,
    nothing_stays_with_the_dead,
    open_tasks,
    submit_many,
    until_all_are_closed,
    until_processing,
)
from tests.support.service import RunningService
from tests.tasks.conftest import NO_LIMITS
from tests.tasks.workers import Workers, submit, submit_batch, until

WORKERS = 2
IMAGE_SECONDS = 1.5
SLACK_SECONDS = 1  # the machine's own


@pytest.fixture
def settings(gemini: GeminiStandin, redis: OwnRedis) -> dict[str, str]:
    gemini.configure(pixels=(64, 64), delay_seconds=IMAGE_SECONDS)
    return {
        "GOOGLE_API_KEY": OPERATOR_KEY, "GOOGLE_GEMINI_BASE_URL": gemini.url, "REDIS_URL": redis.url, **NO_LIMITS,
    }  # fmt: skip


@pytest.fixture
def crew(workers: Workers) -> Crew:
    return Crew(workers, WORKERS)


async def test_workers_killed_at_random(service: RunningService, crew: Crew, redis: OwnRedis, soak: bool) -> None:
    count, kills, users, seconds = (200, 20, 6, 300) if soak else (30, 4, 3, 60)
    guests = [await service.guest() for _ in range(users)]
    accepted = await submit_many(guests, count)
    async with crew.at_work(), nothing_stays_with_the_dead(service):
        while crew.killed < kills:
            await until_processing(service, 3)
            await asyncio.sleep(random.uniform(0, 2 * IMAGE_SECONDS if soak else IMAGE_SECONDS / 2))
            await crew.kill_one()
        await until_all_are_closed(service, seconds)
        await assert_books_balance(service, redis.url, accepted)


async def test_redis_killed_with_its_file_and_then_emptied(
    service: RunningService, crew: Crew, redis: OwnRedis, soak: bool
) -> None:
    """Those who are signed in are not any more when Redis was emptied; what they were promised is done all the same."""
    count, kills, users, seconds = (200, 5, 6, 300) if soak else (30, 1, 3, 90)
    guests = [await service.guest() for _ in range(users)]
    accepted = await submit_many(guests, count)
    async with crew.at_work(), nothing_stays_with_the_dead(service):
        for number in range(kills + 1):
            await until_processing(service, 3)
            await asyncio.sleep(random.uniform(0, IMAGE_SECONDS))
            redis.kill()
            if number == kills:
                redis.lose_everything()
            await asyncio.sleep(random.uniform(0.2, 1))
            await asyncio.to_thread(redis.start)
        await until_all_are_closed(service, seconds)
        await assert_books_balance(service, redis.url, accepted)


async def test_many_batches_at_once(service: RunningService, crew: Crew, redis: OwnRedis, soak: bool) -> None:
    guests = [await service.guest() for _ in range(10)]
    submitted = [submit_batch(guests[number % 10], 10, f"number {number}") for number in range(50 if soak else 10)]
    accepted = dict.fromkeys(await asyncio.gather(*submitted), 10)
    async with crew.at_work():
        await until_all_are_closed(service, 120)
    await assert_books_balance(service, redis.url, accepted)


async def test_one_users_many_delay_another_by_no_more_than_an_image(
    service: RunningService, crew: Crew, redis: OwnRedis, soak: bool
) -> None:
    many, single = await service.guest(), await service.guest()
    accepted = await submit_many([many], 500 if soak else 30)
    async with crew.at_work():
        await until_processing(service, 3)
        begun = time.monotonic()
        mine = await submit(single, "just one")
        await until(single, mine, "completed")
        waited = time.monotonic() - begun
        assert waited < 2 * IMAGE_SECONDS + SLACK_SECONDS, "longer than an image of another's and its own"
        assert len(await open_tasks(service)) >= 3, "the others were through already"
        await until_all_are_closed(service, 300)
    await assert_books_balance(service, redis.url, accepted | {mine: 1})
