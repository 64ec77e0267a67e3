"""What the tests of histories that are cleared or handed on share: guests with images, processes that die."""

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable, Mapping
from hashlib import blake2b
from pathlib import Path

from sqlalchemy import Connection, func, select

from core.clients.redis import reply
from core.metrics import Metrics
from core.settings import load_settings
from services.container import Container, open_container
from services.history.retention import LOCK
from services.history.store import images
from tests.conftest import OPERATOR_KEY
from tests.history.shelf import multiply, retained
from tests.support.databases import databases
from tests.support.service import Guest, RunningService

FEW = 25
_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(["api.__main__"])

Job = Callable[[Container], Awaitable[object]]
# Where a process dies: at a fail-point, after so many seconds, or nowhere.
Death = str | float | None


def clearing_settings(gemini_url: str, redis_url: str) -> dict[str, str]:
    """No limit that would end a test early, and a trash that is emptied at once."""
    return {
        "GOOGLE_API_KEY": OPERATOR_KEY, "GOOGLE_GEMINI_BASE_URL": gemini_url, "REDIS_URL": redis_url,
        "TRASH_MINUTES": "0", "TRIAL_COOLDOWN_SECONDS": "0", "TRIAL_GUEST_SHARE": "1",
        "TRIAL_GLOBAL_QUOTA": "100000", "RATE_LIMIT_REQUESTS": "100000", "GUEST_RATE_PER_HOUR": "100000",
    }  # fmt: skip


async def with_images(service: RunningService, count: int) -> Guest:
    """A guest with so many images, each with bytes, record and thumbnail."""
    guest = await service.guest()
    model = (await guest.image())["history_id"]
    assert (await guest.client.get(f"/api/images/{model}/thumbnail")).status_code == 200
    await multiply(service, model, count - 1)
    return guest


def files_of(service: RunningService, guest: Guest | None = None) -> dict[str, bytes]:
    """A digest of each object, of one guest or of all, by its key."""
    folder = "*" if guest is None else guest.tokens["user"]["user_folder_id"]
    found = service.stored(f"users/{folder}/**/*") + service.stored(f"thumbnails/{folder}/*")
    return {
        path.relative_to(service.storage_dir).as_posix(): blake2b(path.read_bytes()).digest() for path in found
    }  # fmt: skip


async def rows_of(service: RunningService, guest: Guest) -> int:
    def count(connection: Connection) -> int:
        mine = select(func.count()).select_from(images).where(images.c.user_id == guest.id)
        return connection.execute(mine).scalar_one()

    return await service.container.database.read(count)


def retain(container: Container) -> Awaitable[object]:
    """A job: a retention run."""
    return container.retention.run()


async def lease_of_the_dead_ends(service: RunningService) -> None:
    """As it does by itself 15 s after a process died over a retention run."""
    await reply(service.container.redis.delete(LOCK()))


async def next_run(service: RunningService) -> None:
    """The first retention run after one that died."""
    await lease_of_the_dead_ends(service)
    await retained(service)


async def work_and_die(environment: Mapping[str, str], data_dir: Path, job: Job, death: Death) -> None:
    """Do something in a process of its own."""
    settings = {**environment, **databases.settings(data_dir), "DATA_DIR": str(data_dir)}
    settings["FAIL_POINT"] = death if isinstance(death, str) else ""
    started = _FORKING.Event()
    process = _FORKING.Process(target=_work, args=(settings, started, job), daemon=True)
    process.start()
    try:
        assert await asyncio.to_thread(started.wait, 30)
        if isinstance(death, float):
            await asyncio.sleep(death)
            process.kill()
        await asyncio.to_thread(process.join, 30)
        assert process.exitcode in ({-9} if isinstance(death, str) else {0, -9})
    finally:
        process.kill()
        process.join()


def _work(environment: dict[str, str], started: "multiprocessing.synchronize.Event", job: Job) -> None:
    async def run() -> None:
        async with open_container(load_settings(environment), Metrics()) as container:
            started.set()
            await job(container)

    asyncio.run(run())
