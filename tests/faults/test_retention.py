"""The retention run, killed with -9 anywhere, with another beside it, and over many: exactly those go, oldest first."""

import asyncio
import multiprocessing
import random
import resource
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from benchmarks.gemini_standin import GeminiStandin
from core.clock import DAY_MS, now_ms
from core.metrics import Metrics
from core.settings import load_settings
from services.container import open_container
from services.history.models import Image
from services.history.removal import REMOVE_BATCH
from tests.conftest import OpenService
from tests.faults.histories import (
    Death,
    clearing_settings,
    files_of,
    lease_of_the_dead_ends,
    next_run,
    retain,
    work_and_die,
)
from tests.history.shelf import multiply, set_columns
from tests.support.databases import databases
from tests.support.service import Guest, RunningService

SEED = 20261125
DAYS = 30
OLD, OVER, KEPT = REMOVE_BATCH + 100, 60, 40  # two pages by their days, another by the cap
SIZE = 100
CHARGE_ALL = """
    INSERT INTO charges (image_id, reservation_id, user_id, mode, points, day, created_at)
    SELECT id, call_id, user_id, 'basic_1k', 1, '2026-01-01', created_at FROM images
    WHERE id NOT IN (SELECT image_id FROM charges)
"""
MANY = 10_000
TEXT_CHARACTERS = 3000  # 30 MB of it, if rows were read whole
MOST_GROWTH = 20 * 2**20  # 17 were seen; 10 before rows had their folded prompt and the indexes of the search
RUN_SECONDS = 60
_FORKING = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Shelf:
    """Images of several people. `ids` by age, the oldest first; the last `kept` of them are to stay."""

    service: RunningService
    guests: tuple[Guest, ...]
    ids: tuple[str, ...]
    kept: int
    charged: int

    def left(self, *, taken: bool = True) -> list[str]:
        """By age; without `taken` only those that no run has taken."""
        condition = "" if taken else " WHERE deleted_at IS NULL"
        rows = databases.ask(self.service.data_dir, f"SELECT id FROM images{condition} ORDER BY created_at")
        return [row[0] for row in rows]

    def check(self, said: str = "") -> None:
        """Rows and objects of exactly those that are to stay; and all that was ever charged."""
        assert self.left() == list(self.ids[-self.kept :]), said
        rows = databases.ask(self.service.data_dir, "SELECT key, folder_id, id FROM images")
        objects = {key for key, _, _ in rows}
        objects |= {f"{key.rpartition('.')[0]}.json" for key in objects}
        objects |= {f"thumbnails/{folder}/{image_id}.webp" for _, folder, image_id in rows}
        assert files_of(self.service).keys() == objects, said
        assert charged(self.service) == self.charged, said


async def shelf_of(service: RunningService, *, old: int, over: int, kept: int, text: str | None = None) -> Shelf:
    """So many beyond their days, and so many over the cap, of three guests; all with bytes, record and thumbnail."""
    guests = [await service.guest() for _ in range(3)]
    own = [(await guest.image())["history_id"] for guest in guests]
    for guest, image_id in zip(guests, own, strict=True):
        assert (await guest.client.get(f"/api/images/{image_id}/thumbnail")).status_code == 200
        set_columns(service, image_id, size=0)  # of now, and without weight
    count, now = old + over + kept, now_ms()
    order = list(range(count))
    random.Random(SEED).shuffle(order)

    def aged(image: Image, number: int) -> Image:
        place = order[number]
        age_ms = (DAYS + 1) * DAY_MS - place if place < old else DAY_MS - place
        return replace(
            image, user_id=guests[number % 3].id, created_at=now - age_ms, size=SIZE, expires_at=None,
            text_response=text,
        )  # fmt: skip

    await multiply(service, own[0], count, aged)
    databases.change(service.data_dir, CHARGE_ALL)
    ids = databases.ask(service.data_dir, "SELECT id FROM images ORDER BY created_at")
    return Shelf(service, tuple(guests), tuple(row[0] for row in ids), kept + len(guests), charged(service))


def charged(service: RunningService) -> int:
    ((points,),) = databases.ask(service.data_dir, "SELECT sum(points) FROM charges")
    return int(points)


def retention_settings(gemini: GeminiStandin, redis_url: str, kept: int) -> dict[str, str]:
    gemini.configure(pixels=(64, 64))
    cap = f"{kept * SIZE / 1e9:.9f}"
    return {**clearing_settings(gemini.url, redis_url), "MAX_HISTORY_DAYS": str(DAYS), "MAX_STORAGE_GB": cap}


def deaths(repetitions: int) -> list[Death]:
    """Pages one and two are beyond their days, three is over the cap."""
    chance = random.Random(SEED)
    moments = [round(chance.uniform(0, 0.25), 3) for _ in range(2 * repetitions)]
    points = ["due_taken:1", "due_taken:3", "bytes_removed:2", "objects_removed:3", "rows_removed:1"]
    if repetitions > 1:
        names = ("due_taken", "bytes_removed", "objects_removed", "rows_removed")
        points = [f"{name}:{page}" for name in names for page in range(1, 4)]
    return [*points, *moments]


async def test_after_a_run_that_died_the_next_one_leaves_exactly_what_is_to_stay(
    open_service: OpenService, gemini: GeminiStandin, redis_url: str, soak: bool
) -> None:
    settings = retention_settings(gemini, redis_url, KEPT)
    service = await open_service(**settings)
    for death in deaths(5 if soak else 1):
        shelf = await shelf_of(service, old=OLD, over=OVER, kept=KEPT)
        await work_and_die(settings, service.data_dir, retain, death)

        untouched = shelf.left(taken=False)
        assert untouched == list(shelf.ids[-len(untouched) :]), f"{death}: not the oldest first"
        assert len(untouched) >= shelf.kept, str(death)
        await next_run(service)

        shelf.check(str(death))
        for guest in shelf.guests:
            (await guest.client.delete("/api/history/all", params={"final": "true"})).raise_for_status()


async def test_two_workers_at_once_do_what_one_does(
    open_service: OpenService, gemini: GeminiStandin, redis_url: str
) -> None:
    settings = retention_settings(gemini, redis_url, KEPT)
    service = await open_service(**settings)
    shelf = await shelf_of(service, old=OLD, over=OVER, kept=KEPT)
    await asyncio.gather(*(work_and_die(settings, service.data_dir, retain, None) for _ in range(2)))
    shelf.check()


async def test_ten_thousand_go_the_oldest_first_in_bounded_memory(
    open_service: OpenService, gemini: GeminiStandin, redis_url: str
) -> None:
    settings = retention_settings(gemini, redis_url, KEPT)
    service = await open_service(**settings)
    shelf = await shelf_of(service, old=MANY // 2, over=MANY - MANY // 2, kept=KEPT, text="x" * TEXT_CHARACTERS)
    await work_and_die(settings, service.data_dir, retain, "rows_removed:3")
    assert shelf.left() == list(shelf.ids[3 * REMOVE_BATCH :])

    await lease_of_the_dead_ends(service)
    growth = await growth_of_a_run(settings, service.data_dir)

    shelf.check()
    assert growth < MOST_GROWTH, f"{growth / 2**20:.1f} MB"


async def growth_of_a_run(settings: dict[str, str], data_dir: Path) -> int:
    """How many bytes of memory a run takes at most, in a process of its own."""
    environment = {**settings, **databases.settings(data_dir), "DATA_DIR": str(data_dir)}
    ours, theirs = _FORKING.Pipe()
    process = _FORKING.Process(target=_measure, args=(environment, theirs), daemon=True)
    process.start()
    try:
        assert await asyncio.to_thread(ours.poll, RUN_SECONDS)
        growth: int = ours.recv()
        return growth
    finally:
        process.kill()
        process.join()


def _measure(environment: dict[str, str], answer: Connection) -> None:
    async def run() -> None:
        async with open_container(load_settings(environment), Metrics()) as container:
            before = psutil.Process().memory_info().rss
            report = await container.retention.run()
            assert report is not None
            assert report.failure == ""
            answer.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)

    asyncio.run(run())
