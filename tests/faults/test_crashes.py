"""The crash table of SPEC section 9, row by row: real processes, killed with -9 at each boundary."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from benchmarks.gemini_standin import GeminiStandin
from benchmarks.standin_behaviour import StepFields
from services.quota.store import RESERVATIONS
from tests.conftest import OpenService
from tests.faults.support import (
    OWN_KEY,
    SETTLED_SECONDS,
    SpareApi,
    balanced_books,
    calls_upstream,
    embedded_redis_url,
    fault_settings,
    guests,
    held_reservations,
    kill_tree,
    read_books,
    send,
    send_through_it_all,
    send_until_answered,
    sign_in,
    until_nothing_is_held,
)
from tests.support.installation import Installation, named
from tests.support.parts import Parts, open_parts
from tests.support.service import Guest
from tests.support.waiting import eventually

# Where a process dies; `called` is no fail-point: it is killed while the provider is at work.
POINTS = ("reserved", "called", "answered", "bytes_stored", "record_stored", "indexed", "committed")
NOTHING_STORED = frozenset({"reserved", "called", "answered", "bytes_stored"})
STARTING_AT_ONCE = 4
BACKLOG = 60


@pytest.fixture
def settings(gemini: GeminiStandin) -> dict[str, str]:
    gemini.configure(pixels=(64, 64))
    return fault_settings(gemini)


@pytest.fixture
async def clients() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def repetitions(soak: bool) -> int:
    return 5 if soak else 1


@dataclass(frozen=True)
class Cell:
    """One way to die: where, on whose key, and whether the client sends its Idempotency-Key once more afterwards."""

    point: str
    own_key: bool
    resent: bool
    repetition: int

    @property
    def prompt(self) -> str:
        key, then = "own" if self.own_key else "operator", "resent" if self.resent else "left"
        return f"{self.repetition} {self.point} {key} {then}"

    @property
    def headers(self) -> dict[str, str]:
        key = {"Idempotency-Key": self.prompt.replace(" ", "-")} if self.resent else {}
        return key | ({"X-API-Key": OWN_KEY} if self.own_key else {})

    @property
    def images(self) -> int:
        return int(self.resent or self.point not in NOTHING_STORED)

    @property
    def charges(self) -> int:
        return 0 if self.own_key else self.images

    @property
    def calls(self) -> int:
        """The second try asks the provider only where the first one had stored nothing."""
        return int(self.point != "reserved") + int(self.resent and self.point in NOTHING_STORED)


class Crashes:
    """Lets processes of an installation die, each over one generation."""

    def __init__(self, installation: Installation, settings: dict[str, str], gemini: GeminiStandin) -> None:
        self._installation = installation
        self._settings = settings
        self._gemini = gemini
        self._starting = asyncio.Semaphore(STARTING_AT_ONCE)

    async def die_at_fail_point(self, guest: Guest, cell: Cell) -> None:
        async with self._starting:
            spare = SpareApi(self._installation, {**self._settings, "FAIL_POINT": cell.point})
            try:
                response = await send(guest, cell.prompt, cell.headers, base_url=spare.url)
                assert response is None, f"{cell.prompt}: {response.text}"
                assert await spare.exit_code() == -9
            finally:
                spare.close()

    async def die_while_called(self, guest: Guest, cell: Cell) -> None:
        async with self._starting:
            spare = SpareApi(self._installation, self._settings)
            try:
                sending = asyncio.create_task(send(guest, cell.prompt, cell.headers, base_url=spare.url))
                assert await eventually(lambda: self._is_called(cell.prompt), 30), cell.prompt
                spare.kill()
                response = await sending
                assert response is None, f"{cell.prompt}: {response.text}"
            finally:
                spare.close()

    async def _is_called(self, prompt: str) -> bool:
        return calls_upstream(self._gemini)[prompt] == 1


async def test_every_row_of_the_crash_table_ends_with_books_that_balance(
    installation: Installation,
    settings: dict[str, str],
    gemini: GeminiStandin,
    clients: AsyncExitStack,
    repetitions: int,
) -> None:
    cells = [
        Cell(point, own_key, resent, repetition)
        # Those with a key first: their leases run out while the others die.
        for resent, repetition, point, own_key in itertools.product(
            (True, False), range(repetitions), POINTS, (False, True)
        )
    ]
    installation.start(**settings)
    whose = dict(zip(cells, await guests(installation, len(cells), clients), strict=True))
    crashes = Crashes(installation, settings, gemini)

    gemini.configure(pixels=(64, 64), delay_seconds=1.8)
    called = [cell for cell in cells if cell.point == "called"]
    await asyncio.gather(*(crashes.die_while_called(whose[cell], cell) for cell in called))
    gemini.configure(pixels=(64, 64))
    at_fail_points = [cell for cell in cells if cell.point != "called"]
    await asyncio.gather(*(crashes.die_at_fail_point(whose[cell], cell) for cell in at_fail_points))

    resent = [cell for cell in cells if cell.resent]
    answers = await asyncio.gather(
        *(send_until_answered(whose[cell], cell.prompt, cell.headers) for cell in resent)
    )  # fmt: skip
    assert {cell.prompt: answer.text for cell, answer in zip(resent, answers, strict=True) if answer.is_error} == {}

    books = await balanced_books(installation, embedded_redis_url(installation))
    calls = calls_upstream(gemini)
    found = {cell.prompt: (books.listed[cell.prompt], books.charged[cell.prompt], calls[cell.prompt]) for cell in cells}
    assert found == {cell.prompt: (cell.images, cell.charges, cell.calls) for cell in cells}
    assert books.charged.total() == books.points == sum(cell.charges for cell in cells)
    histories = {cell.prompt: (await whose[cell].history())["total"] for cell in cells}
    assert histories == {cell.prompt: cell.images for cell in cells}
    # Only who died with the file in hand leaves it behind, for the hourly cleaning.
    left = list((installation.data / "spool").iterdir())
    assert len(left) <= sum(cell.point in {"called", "answered"} for cell in cells)


async def test_an_api_process_and_then_the_whole_tree_killed_under_load_cost_each_caller_one_image(
    installation: Installation,
    settings: dict[str, str],
    gemini: GeminiStandin,
    clients: AsyncExitStack,
    repetitions: int,
) -> None:
    settings = settings | {"WEB_CONCURRENCY": "2"}
    leader = installation.start(**settings)
    prompts = list[str]()
    for repetition in range(repetitions):
        gemini.configure(pixels=(64, 64), delay_seconds=0.5)
        one, other = ([f"{repetition} {victim} {number}" for number in range(8)] for victim in ("api", "tree"))
        prompts += one + other
        callers = await guests(installation, len(one + other), clients)
        work = [asyncio.create_task(send_through_it_all(*call)) for call in zip(callers, one, strict=False)]
        assert await eventually(partial(all_called, gemini, one))
        named(leader, "nbl-api")[repetition % 2].kill()

        work += [asyncio.create_task(send_through_it_all(*call)) for call in zip(callers[8:], other, strict=True)]
        assert await eventually(partial(all_called, gemini, other[:1]))
        kill_tree(leader)
        leader = await asyncio.to_thread(installation.start, **settings)
        answers = await asyncio.gather(*work)
        assert [answer.text for answer in answers if answer.is_error] == []

    books = await balanced_books(installation, embedded_redis_url(installation))
    assert books.listed == dict.fromkeys(prompts, 1)
    assert books.charged == dict.fromkeys(prompts, 1)


async def all_called(gemini: GeminiStandin, prompts: list[str]) -> bool:
    calls = calls_upstream(gemini)
    return all(calls[prompt] for prompt in prompts)


async def test_a_worker_killed_in_the_sweep_is_followed_by_one_that_finishes_it(
    installation: Installation, settings: dict[str, str], empty_database: Path, repetitions: int
) -> None:
    leader = installation.start(**settings)
    redis_url = embedded_redis_url(installation)
    environment = settings | {"DATA_DIR": str(installation.data), "REDIS_URL": redis_url}
    kept = 0

    async def in_the_middle() -> bool:
        return 0 < held_reservations(redis_url) < BACKLOG

    async with open_parts(environment, empty_database) as parts:
        for _ in range(repetitions):
            await leave_behind(parts, BACKLOG)
            kept += BACKLOG // 3
            assert await eventually(in_the_middle, SETTLED_SECONDS), "the sweep was over before it was seen"
            named(leader, "nbl-worker")[0].kill()
            assert held_reservations(redis_url), "the worker was killed too late to prove anything"
            await until_nothing_is_held(redis_url)

    books = await balanced_books(installation, redis_url)
    assert books.listed.total() == books.charged.total() == books.points == kept


async def leave_behind(parts: Parts, count: int) -> None:
    """What `count` calls leave that died: a third with nothing, with bytes alone, with bytes and record."""
    for number in range(count):
        held = await parts.reserve(f"usr_{number}")
        if number % 3 == 1:
            await parts.store_bytes(held)
        if number % 3 == 2:
            await parts.store(held)


@pytest.mark.parametrize(
    ("step", "status"),
    [
        ({"mode": "error", "status": 500}, 503),
        ({"mode": "error", "status": 400}, 400),
        ({"mode": "safety"}, 400),
        ({"mode": "hang"}, 504),
        ({"mode": "half"}, 502),
    ],
    ids=["error", "rejected", "safety", "timeout", "cut"],
)
async def test_what_the_provider_fails_is_given_back_at_once(
    open_service: OpenService,
    gemini: GeminiStandin,
    settings: dict[str, str],
    repetitions: int,
    step: StepFields,
    status: int,
) -> None:
    service = await open_service(**settings | {"RESERVATION_GRACE_SECONDS": "600"})
    gemini.script(step)
    several = [await service.guest() for _ in range(4 * repetitions)]
    headers = [{}, {"Idempotency-Key": "k"}, {"X-API-Key": OWN_KEY}, {"X-API-Key": OWN_KEY, "Idempotency-Key": "k"}]
    answers = await asyncio.gather(
        *(send(guest, "a lighthouse", headers[number % 4]) for number, guest in enumerate(several))
    )

    assert {answer and answer.status_code for answer in answers} == {status}
    assert await service.container.redis.zcard(RESERVATIONS()) == 0
    assert await several[0].used() == 0
    books = read_books(service.data_dir)
    assert (books.points, books.listed.total()) == (0, 0)
    assert service.stored("users/**/*") == []


async def test_who_hangs_up_at_whatever_moment_pays_for_what_was_asked_of_the_provider_and_finds_it(
    open_service: OpenService,
    gemini: GeminiStandin,
    settings: dict[str, str],
    clients: AsyncExitStack,
    repetitions: int,
) -> None:
    service = await open_service(**settings | {"RESERVATION_GRACE_SECONDS": "600"})
    gemini.configure(pixels=(64, 64), delay_seconds=0.02)
    several = [await sign_in(service.client) for _ in range(40 * repetitions)]
    for guest in several:
        clients.push_async_callback(guest.client.aclose)
    prompts = [f"hung up {number}" for number in range(len(several))]
    for number, (guest, prompt) in enumerate(zip(several, prompts, strict=True)):
        await hang_up_after(guest, prompt, (number % 40) * 0.0015)

    async def over() -> bool:
        return bool(await service.container.redis.zcard(RESERVATIONS()) == 0)

    assert await eventually(over)
    await service.container.generation.drain(5)
    calls = calls_upstream(gemini)
    books = read_books(service.data_dir)
    assert 0 < len(calls) < len(prompts), "all of them hung up on the same side of the call"
    assert books.listed == books.charged == dict.fromkeys(calls, 1)
    assert await several[0].used() == books.points
    assert (books.half_objects, books.unknown_objects, books.missing_objects) == ((), (), ())


async def hang_up_after(guest: Guest, prompt: str, seconds: float) -> None:
    request = guest.client.build_request("POST", "/api/generate/basic", json={"prompt": prompt, "aspect_ratio": "1:1"})
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    _, writer = await asyncio.open_connection(request.url.host, request.url.port)
    writer.write(f"POST {request.url.path} HTTP/1.1\r\n{head}\r\n".encode() + request.content)
    await asyncio.sleep(seconds)
    writer.close()
