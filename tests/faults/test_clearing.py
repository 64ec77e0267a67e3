"""Deleting what somebody made, with processes killed with -9 over it: it ends whole, and takes nothing else along."""

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from benchmarks.gemini_standin import GeminiStandin
from services.history.clearing import CLEAR_BATCH
from services.history.trash import clearances
from tests.conftest import OpenService
from tests.faults.histories import (
    FEW,
    Death,
    clearing_settings,
    files_of,
    next_run,
    retain,
    rows_of,
    with_images,
    work_and_die,
)
from tests.faults.support import SpareApi, plain_client
from tests.support.installation import Installation, named
from tests.support.service import Guest
from tests.support.waiting import eventually

SEED = 20260131
SHORTEST_SECONDS = 0.12  # what a clearance of so few takes on an idle machine
WORKER_SECONDS = 60  # the purge comes every 15 s


@dataclass(frozen=True)
class Cell:
    """One way to die: the process that clears, and the purge after it.

    A number is a moment: as a part of the time that a clearance takes.
    """

    api: Death
    worker: Death = None
    final: bool = True
    count: int = FEW

    def __str__(self) -> str:
        return f"api {self.api}, worker {self.worker}, {'final' if self.final else 'trash'}, {self.count}"

    @property
    def may_have_been_too_early(self) -> bool:
        return isinstance(self.api, float)


def cells(repetitions: int) -> list[Cell]:
    chance = random.Random(SEED)
    moments = [round(chance.uniform(0, 1), 3) for _ in range(9 * repetitions)]
    inside = ("bytes_removed", "objects_removed", "rows_removed")
    return [
        *(Cell(point) for point in ("clearance_noted", "all_cleared", *inside)),
        Cell("batch_cleared", count=CLEAR_BATCH + 5),
        *(Cell(point, final=False) for point in ("clearance_noted", "all_cleared")),
        Cell("batch_cleared", final=False, count=CLEAR_BATCH + 5),
        *(Cell(None, point, final=False) for point in ("due_taken", *inside)),
        Cell("clearance_noted", "all_cleared", final=False),
        Cell("clearance_noted", "batch_cleared", count=CLEAR_BATCH + 5),
        *(Cell(moment) for moment in moments[::3]),
        *(Cell(moment, final=False) for moment in moments[1::3]),
        *(Cell(None, moment, final=False) for moment in moments[2::3]),
    ]


@pytest.fixture
def settings(gemini: GeminiStandin, redis_url: str) -> dict[str, str]:
    gemini.configure(pixels=(64, 64))
    return clearing_settings(gemini.url, redis_url)


async def clear(client: httpx.AsyncClient, *, final: bool) -> httpx.Response | None:
    """None when the process died over it."""
    try:
        return await client.delete("/api/history/all", params={"final": str(final).lower()})
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ConnectError):
        return None


class Clearings:
    """Lets processes die over the same data as the service that the test looks with."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self._installation = Installation(folder)
        self._settings = settings
        self.seconds = SHORTEST_SECONDS
        """What a clearance took that was left in peace: a busy machine dies later too."""

    async def clear(self, guest: Guest, cell: Cell) -> None:
        point = cell.api if isinstance(cell.api, str) else ""
        spare = SpareApi(self._installation, {**self._settings, "FAIL_POINT": point})
        try:
            async with plain_client(spare.url, {"Authorization": guest.client.headers["authorization"]}) as client:
                assert (await client.get("/api/history")).status_code == 200
                begun = time.monotonic()
                clearing = asyncio.create_task(clear(client, final=cell.final))
                if isinstance(cell.api, float):
                    await asyncio.sleep(cell.api * self.seconds)
                    spare.kill()
                answer = await clearing
                if cell.api is None:
                    self.seconds = max(SHORTEST_SECONDS, time.monotonic() - begun)
            if cell.api is None:
                assert answer is not None
                assert answer.json()["deleted_count"] == cell.count
            elif isinstance(cell.api, str):
                assert answer is None, f"{cell}: {answer.text}"
                assert await spare.exit_code() == -9
        finally:
            spare.close()


async def test_a_history_that_is_cleared_is_gone_after_the_next_run_wherever_a_process_died(
    open_service: OpenService, settings: dict[str, str], tmp_path: Path, soak: bool
) -> None:
    service = await open_service(**settings)
    bystander = await with_images(service, FEW)
    kept, rows = files_of(service, bystander), await rows_of(service, bystander)
    clearings = Clearings(tmp_path, settings)
    survived = 0
    found = cells(5 if soak else 1)
    assert len(found) >= 20
    for cell in found:
        guest = await with_images(service, cell.count)
        before = files_of(service, guest)
        assert (len(before), await rows_of(service, guest)) == (3 * cell.count, cell.count)
        await clearings.clear(guest, cell)
        if cell.worker is not None:
            death = cell.worker * clearings.seconds if isinstance(cell.worker, float) else cell.worker
            await work_and_die(settings, service.data_dir, retain, death)

        await next_run(service)

        left = files_of(service, guest), await rows_of(service, guest)
        if cell.may_have_been_too_early and left == (before, cell.count):
            survived += 1  # it died before it had understood
            assert (await guest.history())["total"] == cell.count
            assert (await guest.client.delete("/api/history/all", params={"final": "true"})).status_code == 200
        else:
            assert left == ({}, 0), str(cell)
        assert files_of(service) == kept, str(cell)
        assert await rows_of(service, bystander) == rows
        await guest.client.aclose()
    noted = await service.container.database.read(
        lambda connection: connection.execute(select(func.count()).select_from(clearances)).scalar_one()
    )
    assert noted == 0
    assert survived < len([cell for cell in found if cell.may_have_been_too_early]), "all of them died too early"


async def test_a_worker_killed_again_and_again_still_empties_the_trash(
    installation: Installation, open_service: OpenService, settings: dict[str, str], soak: bool
) -> None:
    """The whole tree as an operator runs it; the test looks with a service of its own over the same data."""
    service = await open_service(**settings)
    leader = installation.start(**settings, WEB_CONCURRENCY="1")
    bystander, guest = await with_images(service, FEW), await with_images(service, 3 * CLEAR_BATCH)
    kept = files_of(service, bystander)
    total = len(files_of(service, guest))
    answer = await clear(guest.client, final=False)
    assert answer is not None
    assert answer.json()["deleted_count"] == 3 * CLEAR_BATCH
    deaths = 0

    async def fewer(than: int) -> bool:
        try:
            return len(service.stored(f"users/{guest.tokens['user']['user_folder_id']}/**/*")) < than
        except FileNotFoundError:  # a folder that is removed while it is looked through
            return False

    for share in (0.95, 0.3):
        if await eventually(lambda share=share: fewer(int(total * share)), WORKER_SECONDS):  # type: ignore[misc]
            named(leader, "nbl-worker")[0].kill()
            deaths += await rows_of(service, guest) > 0

    async def all_gone() -> bool:
        return await rows_of(service, guest) == 0

    assert await eventually(all_gone, WORKER_SECONDS)
    assert files_of(service) == kept
    assert deaths > 0, "the worker was killed too late to prove anything"


async def test_a_favorite_killed_between_record_and_row_harms_neither(
    open_service: OpenService, settings: dict[str, str], tmp_path: Path
) -> None:
    service = await open_service(**settings)
    guest = await with_images(service, 2)
    (newest, *_) = (await guest.history())["items"]
    spare = SpareApi(Installation(tmp_path), {**settings, "FAIL_POINT": "record_changed"})
    try:
        async with plain_client(spare.url, {"Authorization": guest.client.headers["authorization"]}) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(f"/api/history/{newest['id']}/favorite", json={"is_favorite": True})
        assert await spare.exit_code() == -9
    finally:
        spare.close()
    mark = {"is_favorite": True}
    assert (await guest.client.post(f"/api/history/{newest['id']}/favorite", json=mark)).status_code == 200
    assert [item["id"] for item in (await guest.history(favorites_only="true"))["items"]] == [newest["id"]]
    (await guest.client.delete("/api/history/all", params={"final": "true"})).raise_for_status()
    assert files_of(service) == {}
