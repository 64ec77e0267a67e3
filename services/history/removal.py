"""Removing for good: the one place where images end, all of bytes, thumbnail, record and row."""

import asyncio
from collections.abc import Sequence

from core.clients.database import Database
from core.failpoints import FailPoints
from services.history import trash
from services.history.trash import Doomed
from services.storage.base import Storage
from services.storage.names import record_key, stem_of, thumbnail_key

AT_ONCE = 20


class Remover:
    def __init__(self, database: Database, storage: Storage, fail_points: FailPoints) -> None:
        self._database = database
        self._storage = storage
        self._fail_points = fail_points

    async def remove(self, doomed: Sequence[Doomed]) -> None:
        """Remove images that were taken for it. What fails, and what a crash leaves, is found again by its row.

        Raises StorageUnavailable when objects of some are left; the others are gone then.
        """
        for start in range(0, len(doomed), AT_ONCE):
            some = doomed[start : start + AT_ONCE]
            outcomes = await asyncio.gather(*(self._remove_objects(image) for image in some), return_exceptions=True)
            gone = [image.id for image, outcome in zip(some, outcomes, strict=True) if outcome is None]
            self._fail_points.reach("objects_removed")
            await self._database.write(lambda connection, gone=gone: trash.remove_rows(connection, gone))  # type: ignore[misc]
            self._fail_points.reach("rows_removed")
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome

    async def _remove_objects(self, image: Doomed) -> None:
        # The bytes first: whoever makes a thumbnail meanwhile looks for them afterwards, and takes it back.
        await self._storage.delete(image.key)
        self._fail_points.reach("bytes_removed")
        await self._storage.delete(thumbnail_key(image.folder_id, image.id))
        self._fail_points.reach("thumbnail_removed")
        await self._storage.delete(record_key(stem_of(image.key)))
        self._fail_points.reach("record_removed")
