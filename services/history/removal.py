"""Removing for good: the one place where images end, all of bytes, thumbnail, record and row."""

import asyncio
from collections.abc import Sequence
from functools import partial

from core.clients.database import Database
from core.errors import StorageUnavailable
from core.failpoints import FailPoints
from core.logging import get_logger
from services.history import trash
from services.history.trash import Doomed
from services.storage.base import Storage
from services.storage.names import record_key, stem_of, thumbnail_key

AT_ONCE = 20

log = get_logger(__name__)


class Remover:
    def __init__(self, database: Database, storage: Storage, fail_points: FailPoints) -> None:
        self._database = database
        self._storage = storage
        self._fail_points = fail_points

    async def remove(self, doomed: Sequence[Doomed]) -> list[Doomed]:
        """Remove images that were taken for it. Answers those of which objects are left because storage failed; they
        are found again by their rows, as is what a crash leaves.
        """
        left: list[Doomed] = []
        for start in range(0, len(doomed), AT_ONCE):
            some = doomed[start : start + AT_ONCE]
            outcomes = await asyncio.gather(*(self._remove_objects(image) for image in some))
            gone = [image.id for image, is_gone in zip(some, outcomes, strict=True) if is_gone]
            left += [image for image, is_gone in zip(some, outcomes, strict=True) if not is_gone]
            self._fail_points.reach("objects_removed")
            await self._database.write(partial(trash.remove_rows, image_ids=gone))
            self._fail_points.reach("rows_removed")
        return left

    async def _remove_objects(self, image: Doomed) -> bool:
        try:
            # The bytes first: whoever makes a thumbnail meanwhile looks for them afterwards, and takes it back.
            await self._storage.delete(image.key)
            self._fail_points.reach("bytes_removed")
            await self._storage.delete(thumbnail_key(image.folder_id, image.id))
            self._fail_points.reach("thumbnail_removed")
            await self._storage.delete(record_key(stem_of(image.key)))
            self._fail_points.reach("record_removed")
        except (StorageUnavailable, ValueError) as error:
            # One that cannot go must not keep the others.
            log.warning("image not removed yet", image_id=image.id, reason=str(error))
            return False
        return True
