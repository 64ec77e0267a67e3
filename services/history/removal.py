"""Removing for good: the one place where images end, all of bytes, thumbnail, record and row."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from core.clients.database import Database
from core.errors import StorageUnavailable
from core.failpoints import FailPoints
from core.logging import get_logger
from services.history import trash
from services.history.trash import Doomed
from services.storage.base import Storage
from services.storage.names import record_key, stem_of, thumbnail_key

REMOVE_BATCH = 500  # two keys of each are what S3 takes in one request

log = get_logger(__name__)


@dataclass(frozen=True)
class Removal:
    """How many `images` are gone, and the `bytes` of them; how many are `left`, since storage kept something of them.

    One that another process removed at the same moment is counted by one of both.
    """

    images: int = 0
    bytes: int = 0
    left: int = 0

    def __add__(self, other: "Removal") -> "Removal":
        return Removal(self.images + other.images, self.bytes + other.bytes, self.left + other.left)


class Remover:
    def __init__(self, database: Database, storage: Storage, fail_points: FailPoints) -> None:
        self._database = database
        self._storage = storage
        self._fail_points = fail_points

    async def remove(self, doomed: Sequence[Doomed]) -> Removal:
        """Remove images that were taken for it, some hundreds at a time. One that cannot go does not keep the others.

        Raises StorageUnavailable when the storage as a whole fails. Whatever is left, then or by a crash, is found
        again by its row.
        """
        # The bytes first: whoever makes a thumbnail meanwhile looks for them afterwards, and takes it back.
        left = dict(await self._storage.delete_many([image.key for image in doomed]))
        self._fail_points.reach("bytes_removed")
        bare = [image for image in doomed if image.key not in left]
        left |= await self._storage.delete_many([key for image in bare for key in _companions(image)])
        self._fail_points.reach("objects_removed")
        gone = [image.id for image in bare if not any(key in left for key in _companions(image))]
        sizes = await self._database.write(partial(trash.remove_rows, image_ids=gone))
        self._fail_points.reach("rows_removed")
        if left:
            key, reason = next(iter(left.items()))
            log.warning("images not removed yet", count=len(doomed) - len(gone), first=key, reason=reason)
        return Removal(len(sizes), sum(sizes), len(doomed) - len(gone))

    async def remove_all(self, doomed: Sequence[Doomed]) -> None:
        """The same for somebody who waits. Raises StorageUnavailable when objects of some are left to the worker."""
        removal = await self.remove(doomed)
        if removal.left:
            raise StorageUnavailable(f"objects of {removal.left} deleted images are left")


def _companions(image: Doomed) -> tuple[str, str]:
    return thumbnail_key(image.folder_id, image.id), record_key(stem_of(image.key))
