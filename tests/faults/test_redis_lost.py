"""Redis killed, hung, emptied, under load: 503 at once where its word is needed, and right again when it is back."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from benchmarks.gemini_standin import GeminiStandin
from core.clients.redis import MAX_CONNECTIONS, open_pool, open_redis
from tests.faults.support import (
    OwnRedis,
    balanced_books,
    calls_upstream,
    embedded_redis_url,
    fault_settings,
    metric,
    plain_client,
    sign_in,
)
from tests.faults.traffic import Load, Outage, loaded, report
from tests.support.installation import Installation, named
from tests.support.installation import eventually as eventually_now
from tests.support.waiting import eventually

OUTAGE_SECONDS = 3.0
PROMISED_SECONDS = 1.0
SLACK_SECONDS = 1.0  # the machine's own, with everything on two cores
BACK_SECONDS = 2.0
CALM_SECONDS = 1.5
NEED_REDIS = {"generate", "history", "quota", "guest"}
IN_THE_MAKING = "in the making when Redis goes"


@pytest.fixture
def settings(gemini: GeminiStandin) -> dict[str, str]:
    gemini.configure(pixels=(64, 64), delay_seconds=0.1)
    return fault_settings(gemini)


@pytest.fixture
def outages(soak: bool) -> int:
    return 5 if soak else 1


def pooled(url: SecretStr) -> Redis:
    """As the queue's client is made."""
    return Redis.from_pool(open_pool(url, decode_responses=True))


class Case:
    """An installation under load whose Redis is hurt."""

    def __init__(self, installation: Installation, gemini: GeminiStandin, redis_url: str) -> None:
        self._installation = installation
        self._gemini = gemini
        self._redis_url = redis_url

    async def run(
        self,
        hurt: Callable[[], None],
        heal: Callable[[], None],
        *,
        emptied: bool = False,
        outage_seconds: float = OUTAGE_SECONDS,
    ) -> None:
        """Load before, during and after an outage, with everything that holds however Redis was lost."""
        outage = Outage()
        async with loaded(self._installation.url) as load:
            await asyncio.sleep(CALM_SECONDS)
            failures_before = await self._limiter_failures()
            in_the_making = await self._start_one()
            outage.begun = time.monotonic()
            hurt()
            await asyncio.sleep(outage_seconds)
            await asyncio.to_thread(heal)
            outage.over = time.monotonic()
            await asyncio.sleep(BACK_SECONDS + 1.5)
        made = await in_the_making
        assert made.status_code == 200, made.text
        load.images.add(made.json()["data"]["history_id"])
        self._check_answers(load, outage, emptied=emptied)
        if outage_seconds:
            assert await self._limiter_failures() > failures_before
        books = await balanced_books(self._installation, self._redis_url)
        assert books.charged == books.listed
        assert books.points >= len(load.images), "an image that was answered is not in the books"

    def _check_answers(self, load: Load, outage: Outage, *, emptied: bool) -> None:
        answers = load.answers
        calm = [answer for answer in answers if answer.sent_at + answer.seconds < outage.begun]
        hurt = [answer for answer in answers if outage.begun < answer.sent_at < outage.over]
        after = [answer for answer in answers if answer.sent_at > outage.over]
        report(load, outage)

        assert {answer.status for answer in calm} == {200}, "not even before the outage"
        allowed = {(200, ""), (503, "DEPENDENCY_UNAVAILABLE")} | ({(401, "UNAUTHORIZED")} if emptied else set())
        assert {(answer.status, answer.problem) for answer in answers} <= allowed
        for kind in ("anonymous", "config"):
            assert {answer.status for answer in answers if answer.kind == kind} == {200}, kind
        # The last ones may be answered by the Redis that came back.
        early = [answer for answer in hurt if answer.sent_at < outage.over - PROMISED_SECONDS]
        needing = [answer for answer in early if answer.kind in NEED_REDIS]
        assert {answer.status for answer in needing} <= {503}
        assert {answer.kind for answer in needing} == (NEED_REDIS if early else set())
        slow = [answer for answer in hurt if answer.status == 503 and answer.seconds > PROMISED_SECONDS + SLACK_SECONDS]
        assert slow == []
        assert max(answer.seconds for answer in answers) < 5, "a request hung"
        late = [answer for answer in after if answer.sent_at > outage.over + BACK_SECONDS and not answer.is_right]
        assert late == []
        assert {answer.kind for answer in after if answer.is_right} >= {"generate", "history", "quota", "anonymous"}

    async def _make_one(self) -> httpx.Response:
        async with plain_client(self._installation.url) as visitor:
            guest = await sign_in(visitor)
        async with guest.client:
            return await guest.generate(IN_THE_MAKING, aspect_ratio="1:1")

    async def _start_one(self) -> "asyncio.Task[httpx.Response]":
        """A generation that the provider is at work on."""
        before = calls_upstream(self._gemini)[IN_THE_MAKING]
        self._gemini.configure(pixels=(64, 64), delay_seconds=0.8)
        making = asyncio.create_task(self._make_one())

        async def called() -> bool:
            return calls_upstream(self._gemini)[IN_THE_MAKING] > before

        assert await eventually(called)
        self._gemini.configure(pixels=(64, 64), delay_seconds=0.1)
        return making

    async def _limiter_failures(self) -> float:
        async with plain_client(self._installation.url) as client:
            return metric((await client.get("/metrics")).text, "rate_limit_failures_total")


async def test_redis_killed_and_started_with_its_data(
    installation: Installation, settings: dict[str, str], gemini: GeminiStandin, redis: OwnRedis, outages: int
) -> None:
    installation.start(**settings, REDIS_URL=redis.url)
    for _ in range(outages):
        await Case(installation, gemini, redis.url).run(redis.kill, redis.start)


async def test_redis_that_hangs_and_goes_on(
    installation: Installation, settings: dict[str, str], gemini: GeminiStandin, redis: OwnRedis, outages: int
) -> None:
    installation.start(**settings, REDIS_URL=redis.url)
    for _ in range(outages):
        await Case(installation, gemini, redis.url).run(redis.pause, redis.resume)


async def test_redis_killed_and_started_empty(
    installation: Installation, settings: dict[str, str], gemini: GeminiStandin, redis: OwnRedis, outages: int
) -> None:
    def start_empty() -> None:
        redis.lose_everything()
        redis.start()

    installation.start(**settings, REDIS_URL=redis.url)
    for _ in range(outages):
        await Case(installation, gemini, redis.url).run(redis.kill, start_empty, emptied=True)


async def test_the_embedded_redis_killed_is_started_again_by_the_leader(
    installation: Installation, settings: dict[str, str], gemini: GeminiStandin, outages: int
) -> None:
    leader = installation.start(**settings)

    def kill() -> None:
        named(leader, "nbl-redis")[0].kill()

    def until_back() -> None:
        assert eventually_now(lambda: bool(named(leader, "nbl-redis")) and answers(installation))

    for _ in range(outages):
        await Case(installation, gemini, embedded_redis_url(installation)).run(kill, until_back, outage_seconds=0)


def answers(installation: Installation) -> bool:
    try:
        with installation.redis() as redis:
            return bool(redis.ping())
    except RedisError:
        return False


@pytest.mark.parametrize("open_client", [open_redis, pooled], ids=["shared", "pooled"])
async def test_more_commands_at_once_than_connections_are_told_of_a_redis_that_hangs(
    redis: OwnRedis, open_client: Callable[[SecretStr], Redis]
) -> None:
    """Those for whom no connection is free do not wait for one time-out after the other."""
    async with open_client(SecretStr(redis.url)) as client:
        assert await client.ping()
        redis.pause()
        begun = time.monotonic()
        commands = [client.get("something") for _ in range(8 * MAX_CONNECTIONS)]
        answers = await asyncio.gather(*commands, return_exceptions=True)
        seconds = time.monotonic() - begun
        redis.resume()
        assert all(isinstance(answer, RedisError) for answer in answers)
        assert seconds < PROMISED_SECONDS + SLACK_SECONDS
        assert await client.ping()


async def test_more_commands_at_once_than_connections_wait_for_a_redis_that_is_only_busy(redis: OwnRedis) -> None:
    async with pooled(SecretStr(redis.url)) as client:
        command: Callable[..., Awaitable[object]] = client.execute_command
        waiting = [command("BLPOP", "nothing", "0.2") for _ in range(7 * MAX_CONNECTIONS)]
        assert set(await asyncio.gather(*waiting)) == {None}


async def test_redis_emptied_while_it_runs(
    installation: Installation, settings: dict[str, str], gemini: GeminiStandin, outages: int
) -> None:
    """Counters are set from the ledger while a call is under way whose reservation is lost."""
    installation.start(**settings)

    def empty() -> None:
        with installation.redis() as redis:
            redis.flushall()

    for _ in range(outages):
        case = Case(installation, gemini, embedded_redis_url(installation))
        await case.run(empty, lambda: None, emptied=True, outage_seconds=0)
