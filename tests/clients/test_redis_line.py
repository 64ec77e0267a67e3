"""The connection that all callers share: everybody gets their own reply, whatever happens to the others."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from core.clients.redis import SOCKET_TIMEOUT_SECONDS, open_redis, reply


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(SecretStr(redis_url)) as client:
        yield client


def hold_the_event_loop(seconds: float) -> None:
    time.sleep(seconds)


async def connections_of(client: Redis) -> list[str]:
    return [entry["id"] for entry in await client.client_list()]


async def test_everybody_gets_their_own_reply(client: Redis) -> None:
    await asyncio.gather(*(client.set(f"key{number}", number) for number in range(500)))
    replies = await asyncio.gather(*(client.get(f"key{number}") for number in range(500)))
    assert replies == [str(number) for number in range(500)]


async def test_callers_share_one_connection(client: Redis) -> None:
    await asyncio.gather(*(client.get("something") for _ in range(100)))
    assert len(await connections_of(client)) == 1


async def test_replies_are_what_redis_py_makes_of_them(client: Redis) -> None:
    await reply(client.hset("hash", mapping={"one": 1, "two": "zwei"}))
    assert await reply(client.hgetall("hash")) == {"one": "1", "two": "zwei"}
    assert await client.exists("hash", "nothing") == 1
    assert (await client.config_get("maxmemory"))["maxmemory"] == "0"
    seconds, microseconds = await client.time()
    assert abs(seconds + microseconds / 1e6 - time.time()) < 60


async def test_an_error_is_told_to_who_asked_for_it_alone(client: Redis) -> None:
    await client.set("text", "no number")
    bad, good, lost = await asyncio.gather(
        client.incr("text"), client.get("text"), client.get("nothing"), return_exceptions=True
    )
    assert isinstance(bad, ResponseError)
    assert (good, lost) == ("no number", None)


async def test_a_script_that_redis_does_not_know_is_sent_to_it(client: Redis) -> None:
    script = client.register_script("return {ARGV[1], KEYS[1]}")
    await client.script_flush()
    assert await script(keys=["k"], args=["a"]) == ["a", "k"]


class TestPipeline:
    async def test_replies_stand_in_order(self, client: Redis) -> None:
        pipeline = client.pipeline(transaction=False)
        pipeline.set("a", 1)
        pipeline.incr("a")
        pipeline.hgetall("nothing")
        assert await pipeline.execute() == [True, 2, {}]
        assert await pipeline.execute() == []

    async def test_one_bad_command_is_told(self, client: Redis) -> None:
        pipeline = client.pipeline(transaction=False)
        pipeline.set("text", "x")
        pipeline.incr("text")
        with pytest.raises(ResponseError):
            await pipeline.execute()

    async def test_a_transaction_is_one_step(self, client: Redis) -> None:
        """Two counters that are only raised together are never seen apart."""

        async def raise_both() -> None:
            pipeline = client.pipeline()
            pipeline.incr("left")
            pipeline.incr("right")
            left, right = await pipeline.execute()
            assert left == right

        async def look() -> None:
            left, right = await client.mget("left", "right")
            assert left == right

        await asyncio.gather(*(step() for _ in range(200) for step in (raise_both, look)))
        assert await client.get("left") == "200"

    async def test_a_transaction_with_a_command_that_does_not_exist_does_nothing(self, client: Redis) -> None:
        pipeline = client.pipeline()
        pipeline.set("a", 1)
        pipeline.execute_command("NOSUCHCOMMAND")
        with pytest.raises(ResponseError, match="NOSUCHCOMMAND"):
            await pipeline.execute()
        assert await client.get("a") is None


async def test_a_caller_that_goes_does_not_shift_the_replies_of_others(client: Redis) -> None:
    await client.mset({"mine": "mine", "yours": "yours"})
    going = asyncio.ensure_future(client.get("mine"))
    staying = asyncio.ensure_future(client.get("yours"))
    await asyncio.sleep(0)
    going.cancel()
    assert await staying == "yours"
    assert going.cancelled()


async def test_a_connection_that_redis_cut_is_made_anew(client: Redis, redis_url: str) -> None:
    await client.set("a", "1")
    (mine,) = await connections_of(client)
    async with open_redis(SecretStr(redis_url)) as other:
        await other.client_kill_filter(_id=mine)
        replies = await asyncio.gather(*(client.get("a") for _ in range(50)))
    assert set(replies) == {"1"}
    assert mine not in await connections_of(client)


async def test_what_was_asked_when_the_connection_went_is_asked_again(client: Redis) -> None:
    (mine,) = await connections_of(client)
    killing = client.client_kill_filter(_id=mine, skipme=False)
    outcomes = await asyncio.gather(killing, client.set("a", "1"), client.get("a"), return_exceptions=True)
    assert list(outcomes[1:]) == [True, "1"]


async def test_a_busy_process_is_no_redis_that_hangs(client: Redis) -> None:
    """The reply came long ago when the event loop finds the time to look."""
    await client.set("a", "1")
    asking = asyncio.ensure_future(client.get("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # sent
    hold_the_event_loop(SOCKET_TIMEOUT_SECONDS * 1.5)
    assert await asking == "1"


async def test_a_closed_client_says_so(redis_url: str) -> None:
    client = open_redis(SecretStr(redis_url))
    asking = asyncio.ensure_future(client.get("a"))
    await asyncio.sleep(0)
    await client.aclose()
    with pytest.raises((RedisConnectionError, asyncio.CancelledError)):
        await asking
