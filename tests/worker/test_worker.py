"""`python -m services.worker`, as a process of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import psutil
import pytest
from redis import Redis

from core.clients.embedded_redis import running_redis
from core.clock import DAY_MS, now_ms
from services.accounts.models import Visitor
from services.accounts.users import departures, set_left
from services.quota.store import RESERVATIONS
from tests.support.databases import databases
from tests.support.parts import IMAGE_BYTES, Parts, image_id, open_parts
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 10
WORK_SECONDS = 30  # the sweep comes every 5 s, the purge every 15 s


class WorkerProcess:
    """One worker over a folder; its output is read when it has ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        """Exit code and what it wrote to standard error."""
        async with asyncio.timeout(STOP_SECONDS):
            _, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


StartWorker = Callable[..., Awaitable[WorkerProcess]]


@pytest.fixture
async def start_worker(tmp_path: Path) -> AsyncIterator[StartWorker]:
    started: list[asyncio.subprocess.Process] = []

    async def start(**environment: str) -> WorkerProcess:
        """With nothing of the developer's own settings: neither the environment nor the project's .env."""
        kept = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "HOME", "COVERAGE"))}
        database = databases.settings(Path(environment["DATA_DIR"]))
        own = {"PYTHONPATH": str(ROOT), "LOG_FORMAT": "json", **database}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.worker", cwd=tmp_path,
            env={**kept, **own, **environment},
            stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return WorkerProcess(process)

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "DATA_DIR": str(tmp_path / "data"), "REDIS_URL": redis_url, "TRASH_MINUTES": "0",
        "REQUEST_TIMEOUT_SECONDS": "0.05", "RESERVATION_GRACE_SECONDS": "0", "TRIAL_COOLDOWN_SECONDS": "0",
    }  # fmt: skip


@pytest.fixture
async def parts(settings: dict[str, str], empty_database: Path) -> AsyncIterator[Parts]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(open_parts(settings, empty_database))


async def nothing_held(parts: Parts) -> bool:
    return bool(await parts.redis.zcard(RESERVATIONS()) == 0)


async def test_it_shows_its_name_sweeps_and_stops_on_sigterm(
    settings: dict[str, str], parts: Parts, start_worker: StartWorker
) -> None:
    dead, unfinished = await parts.reserve("usr_a"), await parts.reserve("usr_b")
    await parts.store(unfinished)
    worker = await start_worker(**settings)

    assert await eventually(lambda: nothing_held(parts), WORK_SECONDS)
    assert psutil.Process(worker.process.pid).cmdline()[0] == "nbl-worker"
    assert (await parts.container.history.get("usr_b", image_id(unfinished.id))).call_id == unfinished.id
    assert await parts.counters(dead.day) == await parts.ledger(dead.day)

    code, errors = await worker.stop()
    assert code == 0
    assert "Traceback" not in errors


async def test_it_empties_the_trash_and_takes_what_is_too_old(
    settings: dict[str, str], parts: Parts, start_worker: StartWorker
) -> None:
    held = [await parts.reserve() for _ in range(3)]
    trashed, old, young = held
    for reservation in held:
        await parts.keeper.index(await parts.store(reservation))
        await parts.quota.commit(reservation)
    await parts.container.history.delete("usr_a", image_id(trashed.id), final=False)
    databases.change(
        parts.container.settings.storage.data_dir,
        "UPDATE images SET created_at = :moment WHERE id = :id", moment=now_ms() - 2 * DAY_MS, id=image_id(old.id),
    )  # fmt: skip
    worker = await start_worker(**settings, MAX_HISTORY_DAYS="1")

    async def gone() -> bool:
        return len([info async for info in parts.container.storage.list("users/")]) == 2

    assert await eventually(gone, WORK_SECONDS)
    assert (await parts.container.history.get("usr_a", image_id(young.id))).call_id == young.id
    assert await parts.counters(young.day) == await parts.ledger(young.day), "what was deleted stays charged"
    assert (await parts.ledger(young.day)).pool == 3
    code, errors = await worker.stop()
    assert code == 0
    (told,) = [orjson.loads(line) for line in errors.splitlines() if "retention run" in line]
    size = len(IMAGE_BYTES)
    assert (told["level"], told["outcome"], told["images"], told["bytes"]) == ("info", "done", 2, 2 * size)
    assert told["trash"] == told["days"] == f"1 images, {size} bytes"


async def test_it_finishes_what_somebody_who_leaves_has_begun(
    settings: dict[str, str], parts: Parts, start_worker: StartWorker
) -> None:
    """Also the remains of a call that died, and a deletion that did not come further than its first transaction."""
    guest = (await parts.container.guests.sign_in(Visitor("203.0.113.5", "a browser"))).user
    made, died = await parts.reserve(guest.id), await parts.reserve(guest.id)
    await parts.keeper.index(await parts.store(made))
    await parts.quota.commit(made)
    await parts.store_bytes(died)
    await parts.container.database.write(lambda connection: set_left(connection, guest.id, now_ms()))
    worker = await start_worker(**settings)

    async def nothing_is_left() -> bool:
        files = [info async for info in parts.container.storage.list("")]
        keys = [key async for key in parts.redis.scan_iter(f"*{guest.id}*")]
        return not (files or keys or await parts.container.database.read(departures))

    assert await eventually(nothing_is_left, WORK_SECONDS)
    assert (await parts.ledger(made.day)).users == {("forgotten", "basic_1k"): 1}
    assert (await parts.counters(made.day)).pool == (await parts.ledger(made.day)).pool
    assert (await worker.stop())[0] == 0


async def test_two_workers_do_the_work_of_one(
    settings: dict[str, str], parts: Parts, start_worker: StartWorker
) -> None:
    workers = [await start_worker(**settings) for _ in range(2)]
    held = [await parts.reserve(f"usr_{number}") for number in range(20)]
    for reservation in held[::2]:
        await parts.store(reservation)

    assert await eventually(lambda: nothing_held(parts), WORK_SECONDS)
    assert (await parts.ledger(held[0].day)).pool == 10
    assert await parts.counters(held[0].day) == await parts.ledger(held[0].day)
    for worker in workers:
        code, errors = await worker.stop()
        assert code == 0
        assert "Traceback" not in errors


async def test_without_redis_url_it_says_so_in_one_line(tmp_path: Path, start_worker: StartWorker) -> None:
    worker = await start_worker(DATA_DIR=str(tmp_path / "data"))

    code, errors = await worker.ended()
    assert code == 2
    assert errors.splitlines() == ["REDIS_URL: is empty; scripts/run starts an embedded Redis and sets it"]


async def test_redis_gone_ends_it_with_one_line_for_its_supervisor(tmp_path: Path, start_worker: StartWorker) -> None:
    with running_redis(tmp_path / "own") as server:
        worker = await start_worker(DATA_DIR=str(tmp_path / "data"), REDIS_URL=server.url)
        assert await eventually(lambda: polls(server.url), WORK_SECONDS)

    code, errors = await worker.ended()
    assert code == os.EX_TEMPFAIL
    assert "Redis is away" in errors.splitlines()[-1]
    assert "Traceback" not in errors


async def test_a_restart_of_redis_between_two_polls_is_survived(tmp_path: Path, start_worker: StartWorker) -> None:
    with running_redis(tmp_path / "own") as server:
        worker = await start_worker(DATA_DIR=str(tmp_path / "data"), REDIS_URL=server.url)
        assert await eventually(lambda: polls(server.url), WORK_SECONDS)
        with Redis.from_url(server.url) as client:
            # What a restart does to the connections, without the time in which nothing answers.
            client.client_kill_filter(_type="normal", skipme=True)
            client.delete("arq:queue:health-check")

        assert await eventually(lambda: polls(server.url), WORK_SECONDS), "it works on"
        assert worker.process.returncode is None
        assert (await worker.stop())[0] == 0


async def test_an_address_with_escapes_is_understood(tmp_path: Path, start_worker: StartWorker) -> None:
    """A DATA_DIR with a space is `%20` in the address of the embedded server."""
    with running_redis(tmp_path / "my data") as server:
        assert "%20" in server.url
        worker = await start_worker(DATA_DIR=str(tmp_path / "data"), REDIS_URL=server.url)
        assert await eventually(lambda: polls(server.url), WORK_SECONDS)
        assert (await worker.stop())[0] == 0


async def polls(url: str) -> bool:
    with Redis.from_url(url) as client:
        return bool(client.exists("arq:queue:health-check"))
