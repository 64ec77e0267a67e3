"""Changing what an image's record and row both say: the record first, so that an index that is rebuilt has it too."""

from dataclasses import replace
from typing import Any

from core.clients.database import Database
from core.failpoints import FailPoints
from core.logging import get_logger
from services.history import store
from services.history.models import Image
from services.history.records import BrokenRecord, Owner, Record, nobodys, read_record, write_record
from services.storage.base import Storage
from services.storage.errors import ObjectNotFound
from services.storage.names import record_key, stem_of

CHANGEABLE = ("user_id", "is_favorite", "expires_at")

log = get_logger(__name__)


class RecordChanges:
    def __init__(self, database: Database, storage: Storage, fail_points: FailPoints) -> None:
        self._database = database
        self._storage = storage
        self._fail_points = fail_points

    async def change(self, image: Image, *, owner: Owner | None = None, **values: Any) -> bool:
        """Set some of CHANGEABLE. False when the image is another's or was taken for removal meanwhile.

        `owner` goes with a `user_id`, into the record alone.

        Two changes at once end with a record and a row that say the same: after its row each looks at both again.
        A process that dies in between leaves the record ahead of the row, which nobody was told of.
        """
        await self._write(replace(image, **values), owner)
        self._fail_points.reach("record_changed")
        changed = await self._database.write(
            lambda connection: store.change_image(connection, image.id, image.user_id, values)
        )
        self._fail_points.reach("row_changed")
        await self._reconcile(image)
        return changed

    async def _write(self, image: Image, owner: Owner | None = None) -> None:
        earlier = await self._read(image)
        # The trash is no part of a record: an index that is rebuilt shows what still has its bytes.
        base = replace(image, deleted_at=None) if earlier is None else earlier.image
        charge = None if earlier is None else earlier.charge
        if charge is not None and charge.identity.user_id != image.user_id:
            charge = nobodys(charge)
        if owner is None and earlier is not None:
            owner = earlier.owner
        record = Record(_changed(base, image), charge, owner)
        await self._storage.put(_key(image), write_record(record), content_type="application/json")

    async def _reconcile(self, image: Image) -> None:
        """Until the record says what the row says; an image that is gone, or going, leaves no record behind."""
        while True:
            row = await self._database.read(lambda connection: store.get_image(connection, image.id))
            if row is None or row.deleted_at == store.PURGING:
                await self._storage.delete(_key(image))
                return
            record = await self._read(row)
            if record is not None and _changed(record.image, row) == record.image:
                return
            await self._write(row)

    async def _read(self, image: Image) -> Record | None:
        """None for an image of the old app, which wrote none, and for one that cannot be read: it is written anew."""
        try:
            return read_record(await self._storage.get(_key(image)))
        except ObjectNotFound:
            return None
        except BrokenRecord as error:
            log.error("record is written anew", key=_key(image), reason=str(error))
            return None


def _changed(image: Image, like: Image) -> Image:
    return replace(image, **{name: getattr(like, name) for name in CHANGEABLE})


def _key(image: Image) -> str:
    return record_key(stem_of(image.key))
