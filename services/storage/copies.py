"""Local copies in front of a bucket: images are read from the disk while they are young, and the bucket has them all.

Only images and thumbnails are copied, since nothing under their keys ever changes; records and the keyword list may
be written by another host, or by the operator in the bucket itself.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from core.errors import StorageUnavailable
from core.logging import get_logger
from services.storage.base import ImageWithRecord, ObjectInfo, Storage
from services.storage.errors import ObjectExists, ObjectNotFound
from services.storage.keys import holds_image
from services.storage.local import LocalStorage
from services.storage.spool import Spool

DAY_SECONDS = 86_400

log = get_logger(__name__)


class CopyingStorage:
    """`bucket` is the truth. `copies` may be emptied at any time, and a disk that fails costs nothing but speed."""

    def __init__(self, bucket: Storage, copies: LocalStorage, spool: Spool) -> None:
        self._bucket = bucket
        self._copies = copies
        self._spool = spool
        self.backend = bucket.backend

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        await self._bucket.put(key, data, content_type=content_type)
        if holds_image(key):
            try:
                await self._copies.put(key, data, content_type=content_type)
            except StorageUnavailable as error:
                log.warning("no local copy", key=key, reason=str(error))

    async def put_file(
        self, key: str, path: Path, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        async with self._copying(key, path, content_type):
            await self._bucket.put_file(key, path, content_type=content_type, metadata=metadata)

    async def put_image(self, image: ImageWithRecord, *, between: Callable[[], None]) -> None:
        async with self._copying(image.key, image.path, image.content_type):
            await self._bucket.put_image(image, between=between)

    async def get(self, key: str) -> bytes:
        if holds_image(key):
            with contextlib.suppress(ObjectNotFound, StorageUnavailable):
                return await self._copies.get(key)
        return await self._bucket.get(key)

    async def stat(self, key: str) -> ObjectInfo:
        return await self._bucket.stat(key)

    async def metadata(self, key: str) -> Mapping[str, str]:
        return await self._bucket.metadata(key)

    async def stream(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        sent = 0
        if holds_image(key):
            with contextlib.suppress(ObjectNotFound, StorageUnavailable):
                async for piece in self._copies.stream(key, start, length):
                    sent += len(piece)
                    yield piece
                return
        async for piece in self._bucket.stream(key, start + sent, None if length is None else length - sent):
            yield piece

    async def delete(self, key: str) -> None:
        await self._bucket.delete(key)
        if holds_image(key):
            try:
                await self._copies.delete(key)
            except StorageUnavailable as error:
                log.warning("local copy stays", key=key, reason=str(error))

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, str]:
        left = await self._bucket.delete_many(keys)
        try:
            staying = await self._copies.delete_many([key for key in keys if holds_image(key) and key not in left])
        except StorageUnavailable as error:
            log.warning("local copies stay", reason=str(error))
        else:
            for key, reason in staying.items():
                log.warning("local copy stays", key=key, reason=reason)
        return left

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        return self._bucket.list(prefix)

    async def check(self) -> None:
        await self._bucket.check()

    @contextlib.asynccontextmanager
    async def _copying(self, key: str, path: Path, content_type: str) -> AsyncIterator[None]:
        """Keep a copy of the file at `path` when the bucket has taken it."""
        draft = self._spool.new_path()
        with contextlib.suppress(OSError):  # told of below, where the second name is missing
            # The first name goes with the put; so the bytes are not copied.
            await asyncio.to_thread(os.link, path, draft)
        try:
            yield
            await self._keep(key, draft, content_type)
        finally:
            draft.unlink(missing_ok=True)

    async def _keep(self, key: str, draft: Path, content_type: str) -> None:
        try:
            # One that is there already is of an object that another host has deleted since.
            await self._copies.delete(key)
            await self._copies.put_file(key, draft, content_type=content_type)
        except (ObjectExists, StorageUnavailable) as error:
            log.warning("no local copy", key=key, reason=str(error))


def remove_old_copies(folder: Path, days: int) -> int:
    """Remove copies older than `days`, and folders that are empty then; answers how many copies went.

    A copy is as old as the image in it.
    """
    oldest = time.time() - days * DAY_SECONDS
    removed = 0
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(place, name)
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    removed += 1
            except FileNotFoundError:
                continue
        if Path(place) != folder:
            with contextlib.suppress(OSError):  # not empty, or another worker was here first
                Path(place).rmdir()
    return removed
