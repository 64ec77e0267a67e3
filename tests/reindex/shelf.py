"""What the tests of found objects share: services without HTTP, and objects that somebody put there."""

import os
import time
from pathlib import Path
from typing import Any

from PIL import Image as Pixels

from core.failpoints import FailPoints
from services.accounts.owners import OwnerRegistry
from services.history.models import HistoryFilter
from services.history.records import Record
from services.reindex.entering import Entering
from services.reindex.models import Report
from services.reindex.service import Reindexer
from tests.support.databases import databases
from tests.support.parts import Parts


class Told(Report):
    """A report that keeps its lines."""

    def __init__(self) -> None:
        self.told: list[str] = []
        super().__init__(self.told.append)

    @property
    def oddities(self) -> dict[str, int]:
        return {kind: count for kind, count in self.odd.items() if count}

    @property
    def entered(self) -> dict[str, int]:
        return {source: count for source, count in self.indexed.items() if count}


async def reindexed(parts: Parts, *, dry_run: bool = False) -> Told:
    report = Told()
    await parts.container.reindexer.run(report, dry_run=dry_run)
    return report


async def listed(parts: Parts, user_id: str = "usr_a") -> list[str]:
    page = await parts.container.history.page(user_id, HistoryFilter(), "newest", 50, 0)
    return [image.id for image in page.items]


def in_storage(parts: Parts, key: str) -> Path:
    return parts.container.settings.storage.data_dir / "storage" / key


async def put(parts: Parts, key: str, data: bytes) -> None:
    await parts.container.storage.put(key, data, content_type="application/octet-stream")


def picture(parts: Parts, key: str, size: tuple[int, int] = (30, 20)) -> None:
    path = in_storage(parts, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    Pixels.new("RGB", size).save(path)
    grow_old(path)


def grow_old(path: Path) -> None:
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))


async def kept(parts: Parts) -> Record:
    """An image that was delivered."""
    record = await parts.store(await parts.reserve())
    await parts.keeper.index(record)
    return record


class MeanwhileDeleted:
    """Storage whose answer to who reads a record comes after its image was delivered, and deleted for good."""

    def __init__(self, parts: Parts, record: Record) -> None:
        self._parts = parts
        self._record = record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parts.container.storage, name)

    async def get(self, key: str) -> bytes:
        data = await self._parts.container.storage.get(key)
        await self._parts.keeper.index(self._record)
        await self._parts.container.history.delete("usr_a", self._record.image.id, final=True)
        return data


def over(parts: Parts, storage: Any) -> Reindexer:
    """The container's, over another storage."""
    given = parts.container
    owners = OwnerRegistry(given.database)
    entering = Entering(storage, given.history, given.quota, given.tasks, owners, FailPoints())
    return Reindexer(
        storage, given.history, given.quota, given.recovery, entering, given.tasks, call_lifetime_seconds=0.05
    )


def state(parts: Parts) -> tuple[object, ...]:
    """All rows, and all objects."""
    folder = parts.container.settings.storage.data_dir
    tables = ("users", "charges", "images")
    rows = [databases.ask(folder, f"SELECT * FROM {table} ORDER BY 1") for table in tables]
    files = {path: path.read_bytes() for path in (folder / "storage").rglob("*") if path.is_file()}
    return *rows, files
