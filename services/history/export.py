"""The history as a zip of images and a `metadata.json`, made while it is sent."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from concurrent.futures import Executor
from contextlib import aclosing
from typing import Any, BinaryIO

import orjson

from core.clock import now_ms, rfc3339, utc_day
from services.archive import ZipStream, opened
from services.history.models import Image
from services.storage.base import Storage
from services.storage.spool import Spool

METADATA = "metadata.json"
READ_BYTES = 256 * 1024
BUFFERED_BYTES = 64 * 1024
_NAME_CHARACTERS = 100
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")

Describe = Callable[[Image], Mapping[str, Any]]


class HistoryExport:
    """`threads` for the file in which the metadata grow: they may be more than memory should hold."""

    def __init__(self, storage: Storage, spool: Spool, threads: Executor) -> None:
        self._storage = storage
        self._spool = spool
        self._threads = threads

    async def stream(
        self, images: AsyncGenerator[Image], describe: Describe, asked_ids: Collection[str] = ()
    ) -> AsyncGenerator[bytes]:
        """The zip in pieces, for as long as somebody takes them. What it takes is said at `add_to`."""
        archive = ZipStream()
        async with aclosing(self.add_to(archive, images, describe, asked_ids)) as parts:
            async for part in parts:
                yield part
        yield archive.end()

    async def add_to(
        self, archive: ZipStream, images: AsyncGenerator[Image], describe: Describe, asked_ids: Collection[str] = ()
    ) -> AsyncGenerator[bytes]:
        """The part of a zip that holds these images and their metadata.

        `describe` gives an image's entry in the metadata, to which `file` is added: its name in the zip, or null when
        its bytes are gone. `asked_ids`: those that do not come stand under `not_found`.
        """
        names, unseen = FileNames(), dict.fromkeys(asked_ids)
        with self._spool.open_unnamed() as file:
            metadata = _Metadata(file, self._threads)
            async with aclosing(images):
                async for image in images:
                    unseen.pop(image.id, None)
                    content = await opened(self._storage.stream(image.key))
                    if content is None:
                        await metadata.add({"file": None, **describe(image)})
                        continue
                    name = f"images/{names.of(image)}"
                    async with aclosing(archive.file(name, image.created_at, content, size=image.size)) as parts:
                        async for part in parts:
                            yield part
                    await metadata.add({"file": name, **describe(image)})
            size = await metadata.end(list(unseen))
            async with aclosing(archive.file(METADATA, now_ms(), metadata.pieces(), size=size)) as parts:
                async for part in parts:
                    yield part


class FileNames:
    """Names of images in the zip: by day, in letters that every system takes, and never one twice."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of(self, image: Image) -> str:
        stem, _, extension = image.key.rpartition("/")[2].rpartition(".")
        stem = f"{utc_day(image.created_at)}_{_UNSAFE.sub('_', stem)}"[:_NAME_CHARACTERS]
        extension = _UNSAFE.sub("_", extension)
        name, number = f"{stem}.{extension}", 2
        while name.casefold() in self._given:
            name, number = f"{stem}_{number}.{extension}", number + 1
        self._given.add(name.casefold())
        return name


class _Metadata:
    """The metadata of an export while they grow, in a file."""

    def __init__(self, file: BinaryIO, threads: Executor) -> None:
        self._file = file
        self._threads = threads
        self._pending = bytearray(b'{"exported_at":"%s","items":[' % rfc3339(now_ms()).encode())
        self._total = self._missing = self._size = 0

    async def add(self, entry: Mapping[str, Any]) -> None:
        self._pending += b",\n" if self._total else b"\n"
        self._pending += orjson.dumps(entry)
        self._total += 1
        self._missing += entry["file"] is None
        if len(self._pending) >= BUFFERED_BYTES:
            await self._flush()

    async def end(self, not_found: list[str]) -> int:
        """Answers the size in bytes."""
        last = {"total": self._total, "missing": self._missing, "not_found": not_found}
        self._pending += b"\n]," + orjson.dumps(last)[1:]
        await self._flush()
        return self._size

    async def pieces(self) -> AsyncGenerator[bytes]:
        await self._run(self._file.seek, 0)
        while piece := await self._run(self._file.read, READ_BYTES):
            yield piece

    async def _flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        self._size += len(pending)
        await self._run(self._file.write, pending)

    async def _run(self, work: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
