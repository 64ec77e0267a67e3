"""Listening to Redis: everybody hears of what is published, whatever becomes of the connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from core.clients.redis import open_pool, open_redis
from core.clients.redis_channels import RedisChannels
from tests.faults.support import OwnRedis
from tests.support.waiting import eventually

SECONDS = 5


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(SecretStr(redis_url)) as client:
        yield client


@pytest.fixture
async def channels(redis_url: str) -> AsyncIterator[RedisChannels]:
    channels = RedisChannels(open_pool(SecretStr(redis_url), decode_responses=True))
    yield channels
    await channels.close()


async def rings(bell: asyncio.Event) -> None:
    async with asyncio.timeout(SECONDS):
        await bell.wait()
    bell.clear()


async def listeners(redis: Redis, channel: str) -> int:
    ((_, count),) = await redis.pubsub_numsub(channel)
    return int(count)


async def test_who_listens_hears_of_their_own_channel(redis: Redis, channels: RedisChannels) -> None:
    with channels.listening("a") as first, channels.listening("a") as second, channels.listening("b") as other:
        for bell in (first, second, other):
            await rings(bell)  # from now on nothing is missed
        await redis.publish("a", "")
        await rings(first)
        await rings(second)
        assert not other.is_set()
        await redis.publish("b", "")
        await rings(other)


async def test_a_process_has_one_connection_for_all_channels(redis: Redis, channels: RedisChannels) -> None:
    with ExitStack() as stack:
        bells = [stack.enter_context(channels.listening(f"channel{number}")) for number in range(200)]
        for bell in bells:
            await rings(bell)
        assert len(await redis.client_list("pubsub")) == 1


async def test_a_channel_is_left_with_its_last_listener(redis: Redis, channels: RedisChannels) -> None:
    with channels.listening("a") as bell:
        await rings(bell)
        with channels.listening("a"):
            pass
        assert await listeners(redis, "a") == 1

    async def left() -> bool:
        return await listeners(redis, "a") == 0

    assert await eventually(left)


async def test_a_lost_connection_rings_since_something_may_have_been_missed(
    redis: Redis, channels: RedisChannels
) -> None:
    with channels.listening("a") as bell:
        await rings(bell)
        for _ in range(3):
            await redis.client_kill_filter(_type="pubsub")
            await rings(bell)
            await redis.publish("a", "")
            await rings(bell)


async def test_redis_comes_later_goes_silent_and_comes_back(tmp_path: Path) -> None:
    server = OwnRedis(tmp_path)
    channels = RedisChannels(open_pool(SecretStr(server.url), decode_responses=True), ping_seconds=0.3)
    try:
        with channels.listening("a") as bell:
            await asyncio.sleep(0.1)
            server.start()
            await rings(bell)
            server.pause()
            await asyncio.sleep(1)
            server.resume()
            await rings(bell)
            server.kill()
            server.start()
            await rings(bell)
            async with open_redis(SecretStr(server.url)) as client:
                assert await listeners(client, "a") == 1
                await client.publish("a", "")
            await rings(bell)
    finally:
        await channels.close()
        server.close()
