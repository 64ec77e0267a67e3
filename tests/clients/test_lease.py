"""A lease: one holder at a time, for as long as it works, and not for ever when it dies."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from core.clients.lease import Lease
from core.clients.redis import open_redis, reply
from tests.support.waiting import eventually

KEY = "lock:test"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = open_redis(SecretStr(redis_url))
    yield client
    await client.aclose()


async def is_free(redis: Redis) -> bool:
    async with Lease(redis, KEY).held() as held:
        return held


async def test_of_many_one_holds_it_and_then_another_may(redis: Redis) -> None:
    holders = most = 0

    async def work() -> bool:
        nonlocal holders, most
        async with Lease(redis, KEY).held() as held:
            holders += held
            most = max(most, holders)
            await asyncio.sleep(0.01)
            holders -= held
            return held

    assert (await asyncio.gather(*(work() for _ in range(10)))).count(True) == most == 1
    assert await is_free(redis)


async def test_it_is_renewed_while_its_holder_works_and_free_when_that_fails(redis: Redis) -> None:
    async def work_and_fail() -> None:
        async with Lease(redis, KEY, seconds=1).held() as held:
            assert held
            for _ in range(13):
                await asyncio.sleep(0.1)
                assert not await is_free(redis)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work_and_fail()
    assert await is_free(redis)


async def test_that_of_a_dead_holder_ends_by_itself(redis: Redis) -> None:
    await redis.set(KEY, "a holder that has died", px=100)
    assert not await is_free(redis)
    assert await eventually(lambda: is_free(redis))


async def test_who_has_lost_it_does_not_take_it_from_the_next_one(redis: Redis) -> None:
    async with Lease(redis, KEY, seconds=0.1).held():
        await redis.set(KEY, "the next one")
        await asyncio.sleep(0.1)
    assert await reply(redis.get(KEY)) == "the next one"
