"""A database that is locked or damaged, a disk that is full, a storage that is gone: the right 503, and back again."""

import asyncio
import gc
import resource
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from benchmarks.gemini_standin import GeminiStandin
from core.settings import embedded_database
from services.quota.ledger import charges
from tests.conftest import OPERATOR_KEY, OpenService
from tests.history.shelf import retained
from tests.support.answers import error_of
from tests.support.databases import databases
from tests.support.installation import Installation, named
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually

FAILURES = 200
BIG_IMAGE, SMALL_FILES, NO_ROOM = 3_000_000, 2_000_000, 64_000  # bytes
UNLIMITED = resource.RLIM_INFINITY


async def open_gemini(open_service: OpenService, gemini: GeminiStandin, **settings: str) -> RunningService:
    usual = {"TRIAL_GUEST_SHARE": "1", "TRIAL_GLOBAL_QUOTA": "1000", "TRIAL_BASIC_1K_LIMIT": "1000"}
    limits = {"RATE_LIMIT_REQUESTS": "100000", "GUEST_RATE_PER_HOUR": "100000"}
    return await open_service(
        GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, **usual | limits | settings
    )  # fmt: skip


async def charged(service: RunningService) -> int:
    return await service.container.database.read(
        lambda connection: connection.execute(select(func.count()).select_from(charges)).scalar_one()
    )


def unavailable(response: httpx.Response, code: str, component: str) -> None:
    error = error_of(response, 503, code)
    assert error["details"]["component"] == component
    assert int(response.headers["retry-after"]) >= 1


def spooled(data: Path) -> list[Path]:
    return list((data / "spool").iterdir())


async def test_a_database_that_is_locked_for_a_moment_is_waited_for(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    service = await open_gemini(open_service, gemini)
    guest = await service.guest()
    with databases.locked(service.data_dir):
        call = asyncio.create_task(guest.generate())
        await asyncio.sleep(1)
        assert not call.done()
        assert (await guest.history())["total"] == 0, "readers need no lock"
    assert (await call).status_code == 200
    assert await charged(service) == 1 == await guest.used()


async def test_a_database_that_stays_locked_is_503_and_the_sweep_finishes_what_was_made(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    service = await open_gemini(open_service, gemini, REQUEST_TIMEOUT_SECONDS="1", RESERVATION_GRACE_SECONDS="0")
    guest = await service.guest()
    with databases.locked(service.data_dir):
        started = time.monotonic()
        response = await guest.generate()
        assert time.monotonic() - started < 25
        unavailable(response, "DEPENDENCY_UNAVAILABLE", "database")
        assert (await guest.client.get("/api/quota")).status_code == 200
        assert (await service.client.get("/api/health")).status_code == 200
    assert await charged(service) == 0

    async def swept() -> bool:
        return await service.container.recovery.sweep() == 1

    assert await eventually(swept)
    assert (await guest.history())["total"] == 1
    assert await charged(service) == 1 == await guest.used()
    await guest.image()
    assert spooled(service.data_dir) == []


@contextmanager
def damaged(database: Path) -> Iterator[None]:
    """Nonsense in the same file, which open connections look at too."""
    with closing(sqlite3.connect(database)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = database.read_bytes()
    with database.open("r+b") as file:
        file.write(b"not a database".ljust(len(whole), b"?"))
        file.flush()
        yield
        file.seek(0)
        file.write(whole)


@pytest.mark.sqlite_only
async def test_a_database_file_that_is_damaged_is_503(open_service: OpenService, gemini: GeminiStandin) -> None:
    service = await open_gemini(open_service, gemini)
    guest = await service.guest()
    with damaged(embedded_database(service.data_dir)):
        for _ in range(2):
            unavailable(await service.client.post("/api/auth/guest", json={}), "DEPENDENCY_UNAVAILABLE", "database")
            unavailable(await guest.client.get("/api/history"), "DEPENDENCY_UNAVAILABLE", "database")
        unavailable(await guest.generate(), "DEPENDENCY_UNAVAILABLE", "database")


@pytest.mark.sqlite_only
async def test_a_database_file_that_is_whole_again_is_enough(service: RunningService) -> None:
    guest = await service.guest()
    await guest.image()
    with damaged(embedded_database(service.data_dir)):
        unavailable(await guest.client.get("/api/history"), "DEPENDENCY_UNAVAILABLE", "database")
    for _ in range(8):
        assert (await guest.history())["total"] == 1
    await guest.image()
    assert await charged(service) == 2 == await guest.used()


async def ready_is(service: RunningService, status: int) -> bool:
    return (await service.client.get("/api/health/ready")).status_code == status


@contextmanager
def storage_gone(service: RunningService) -> Iterator[None]:
    """A file in place of the folder: permissions would not stop a test that runs as root."""
    away = service.data_dir / "storage_away"
    service.storage_dir.rename(away)
    service.storage_dir.touch()
    yield
    service.storage_dir.unlink()
    away.rename(service.storage_dir)


async def test_a_storage_that_goes_in_mid_run_is_503_costs_nothing_and_is_used_again_when_it_is_back(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    service = await open_gemini(open_service, gemini)
    guest = await service.guest()
    image = await guest.image()
    paths = httpx.URL(image["image_url"]).raw_path.decode(), httpx.URL(image["thumbnail_url"]).raw_path.decode()
    gemini.configure(delay_seconds=0.3)
    gemini.clear_requests()
    under_way = asyncio.create_task(guest.generate())
    await gemini.until(lambda stats: stats["waiting"] == 1)
    with storage_gone(service):
        unavailable(await under_way, "STORAGE_UNAVAILABLE", "storage")
        gemini.configure()
        for save in (True, False):
            unavailable(await guest.generate(save_to_history=save), "STORAGE_UNAVAILABLE", "storage")
        for path in paths:
            unavailable(await service.client.get(path), "STORAGE_UNAVAILABLE", "storage")
        # What needs no storage goes on.
        assert (await guest.history())["total"] == 1 == await guest.used()
        assert await eventually(lambda: ready_is(service, 503))
        assert spooled(service.data_dir) == []
    for path in paths:
        assert (await service.client.get(path)).status_code == 200
    await guest.image()
    assert await eventually(lambda: ready_is(service, 200))
    assert await charged(service) == 2 == await guest.used()
    assert len(service.stored("users/**/*")) == 4
    assert spooled(service.data_dir) == []


async def test_an_image_that_is_finally_deleted_while_storage_is_gone_goes_when_it_is_back(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    service = await open_gemini(open_service, gemini)
    guest = await service.guest()
    image = await guest.image()
    with storage_gone(service):
        gone = await guest.client.delete(f"/api/history/{image['history_id']}", params={"final": "true"})
        unavailable(gone, "STORAGE_UNAVAILABLE", "storage")
    assert (await guest.history())["total"] == 0
    assert await retained(service) == 1
    assert service.stored("users/**/*") == []


class Full:
    """A disk that takes no file beyond a size, for the processes of one installation alone."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids

    @asynccontextmanager
    async def beyond(self, size: int) -> AsyncIterator[None]:
        self._set(size)
        try:
            yield
        finally:
            self._set(UNLIMITED)

    def _set(self, size: int) -> None:
        for pid in self._pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, UNLIMITED))


@asynccontextmanager
async def guest_of(installation: Installation) -> AsyncIterator[Guest]:
    async with httpx.AsyncClient(base_url=installation.url, timeout=30) as client:
        tokens = (await client.post("/api/auth/guest", json={})).json()
        client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        yield Guest(tokens["user"]["id"], client, tokens)


@pytest.mark.sqlite_only
async def test_a_full_disk_is_503_costs_nothing_and_is_over_when_there_is_room(
    installation: Installation, gemini: GeminiStandin
) -> None:
    leader = installation.start(
        GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, TRIAL_COOLDOWN_SECONDS="0",
        TRIAL_GUEST_SHARE="1", GUEST_RATE_PER_HOUR="1000", LOG_LEVEL="WARNING", REQUEST_TIMEOUT_SECONDS="3",
        RESERVATION_GRACE_SECONDS="0",
    )  # fmt: skip
    (api,) = named(leader, "nbl-api")
    full = Full([api.pid])
    gemini.configure(image_bytes=BIG_IMAGE)
    async with guest_of(installation) as guest:
        await guest.image()
        async with full.beyond(SMALL_FILES):
            for _ in range(3):
                unavailable(await guest.generate(), "STORAGE_UNAVAILABLE", "storage")
            gemini.configure(pixels=(8, 8))
            await guest.image()
            assert await guest.used() == 2
        # No room for the database either, whose log is past the limit by now; the service's own log is not.
        while (wal := embedded_database(installation.data).with_suffix(".db-wal")).stat().st_size < 2 * NO_ROOM:
            await guest.client.post("/api/auth/guest", json={})
        assert len(installation.output()) < NO_ROOM / 2, wal
        async with full.beyond(NO_ROOM):
            unavailable(await guest.client.post("/api/auth/guest", json={}), "DEPENDENCY_UNAVAILABLE", "database")
            unavailable(await guest.generate(), "DEPENDENCY_UNAVAILABLE", "database")
            assert (await guest.history())["total"] == 2
        assert spooled(installation.data) == []
        assert (await guest.client.post("/api/auth/guest", json={})).status_code == 200

        async def swept() -> bool:
            return bool((await guest.history())["total"] == 3)

        assert await eventually(swept, 20), "stored, and held until the sweep indexes and charges it"
        await guest.image()
        assert await guest.used() == 4
    assert named(leader, "nbl-api")[0].pid == api.pid, "it had to be started again"


@pytest.mark.sqlite_only
async def test_a_log_that_cannot_be_written_costs_no_answer(installation: Installation) -> None:
    leader = installation.start()
    async with guest_of(installation) as guest, Full([named(leader, "nbl-api")[0].pid]).beyond(0):
        unavailable(await guest.client.post("/api/auth/guest", json={}), "DEPENDENCY_UNAVAILABLE", "database")


def open_things() -> dict[str, int]:
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
    }


async def fail(guest: Guest, service: RunningService, gemini: GeminiStandin, times: int) -> None:
    """A round of each kind of failure, until there were so many."""
    kinds: tuple[dict[str, Any], ...] = (
        {"mode": "reset"}, {"mode": "half"}, {"mode": "broken_json"}, {"mode": "not_image"},
        {"mode": "error", "status": 500}, {"mode": "safety"},
    )  # fmt: skip
    each = times // (len(kinds) + 2)
    for kind in kinds:
        gemini.configure(**kind)
        await every_one(guest.generate, each, lambda status: status >= 400)
    gemini.configure(pixels=(8, 8))
    with storage_gone(service):
        await every_one(guest.generate, each, lambda status: status == 503)
    await every_one(lambda: guest.generate("x" * 5000), each, lambda status: status == 422)


async def every_one(ask: Callable[[], Any], times: int, expected: Callable[[int], bool]) -> None:
    answers = await asyncio.gather(*(ask() for _ in range(times)))
    assert all(expected(answer.status_code) for answer in answers), answers


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
async def test_many_failures_leave_nothing_open_and_nothing_in_memory(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    service = await open_gemini(open_service, gemini, REQUEST_TIMEOUT_SECONDS="1")
    guest = await service.guest()
    await fail(guest, service, gemini, FAILURES)  # fills pools and caches
    gc.collect()
    before, objects = open_things(), len(gc.get_objects())

    await fail(guest, service, gemini, FAILURES)

    async def settled() -> bool:
        return all(count < before[name] + FAILURES // 20 for name, count in open_things().items())

    assert await eventually(settled), (before, open_things())
    gc.collect()
    assert len(gc.get_objects()) - objects < 5 * FAILURES, "an error that is kept holds dozens of objects"
    assert await guest.used() == 0 == await charged(service)
    assert spooled(service.data_dir) == []
