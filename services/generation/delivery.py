"""From a provider's file to a kept image: the bytes as they came, their record, then index and charge in one."""

import asyncio
import contextlib
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial

from core.errors import StorageUnavailable
from core.failpoints import FailPoints
from core.ids import derived_id
from core.logging import get_logger
from services.history.models import Image
from services.history.object_metadata import object_metadata
from services.history.records import BrokenRecord, Record, read_record, write_record
from services.history.service import HistoryService
from services.providers.base import SpooledImage
from services.quota.errors import HoldGone
from services.quota.models import Reservation
from services.quota.service import QuotaService
from services.quota.task_quota import TaskQuota
from services.storage.base import ImageWithRecord, Storage
from services.storage.errors import MaybeStored, ObjectExists, ObjectNotFound
from services.storage.names import EXTENSIONS, other_stem, record_key, stem_of

NAME_TRIES = 4

log = get_logger(__name__)


class LeftBehind(StorageUnavailable):
    """What was stored of an image could not be taken back; it is found again by its call's reservation."""


class ImageKeeper:
    def __init__(
        self,
        storage: Storage,
        history: HistoryService,
        quota: QuotaService,
        threads: Executor,
        fail_points: FailPoints,
    ) -> None:
        self._fail_points = fail_points
        self._storage = storage
        self._history = history
        self._quota = quota
        self._threads = threads

    async def read(self, spooled: SpooledImage) -> bytes:
        """The bytes of an image that is not kept."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, spooled.path.read_bytes)

    async def bytes_of(self, image: Image) -> bytes:
        return await self._storage.get(image.key)

    async def find(self, user_id: str, image_id: str) -> Image | None:
        """An image of this user that is indexed and not deleted, listed or not."""
        image = await self._history.find_for_link(image_id)
        return image if image is not None and image.user_id == user_id else None

    async def find_made(self, image_id: str) -> Image | None:
        """An image that was made, whosever it is by now and though it lies in the trash."""
        return await self._history.find_any(image_id)

    async def store(self, draft: Image, spooled: SpooledImage, stem: str, charge: Reservation | None) -> Record:
        """Store the bytes under their stem, then their record. The spooled file is gone afterwards.

        A second try of one call gives the record that the first has stored. Raises StorageUnavailable, and then
        nothing is left, or LeftBehind.
        """
        for attempt in range(NAME_TRIES):
            name = other_stem(stem, draft.id, attempt)
            image = replace(draft, key=f"{name}.{EXTENSIONS[draft.mime_type]}")
            try:
                return await self._store_under(image, spooled, charge)
            except ObjectExists:
                earlier = await self._read_record(name)
            if earlier is None:
                # An earlier try of this call died before its record was written: these bytes take their place.
                await self._storage.delete(image.key)
                return await self._store_under(image, spooled, charge)
            if earlier.image.id == image.id:
                spooled.remove()
                return earlier
        raise ObjectExists(draft.key)

    async def index(self, record: Record) -> None:
        """Enter image and charge, once however often it is called."""
        image, charge = record.image, record.charge
        await self._history.add(image, None if charge is None else self._quota.charge(charge, image.id))

    async def index_of_task(self, record: Record, reservation: Reservation) -> None:
        """The same for an image of a task. Raises HoldGone when the task has ended; then nothing is left of it."""
        image = record.image
        try:
            await self._history.add(image, TaskQuota.charge(reservation, image.id))
        except HoldGone:
            await self._take_back(record_key(stem_of(image.key)), image.key)
            raise

    async def find_record(self, stem: str, call_id: str) -> Record | None:
        """The record that a call has stored under its stem, if it has got that far."""
        for attempt in range(NAME_TRIES):
            record = await self._read_record(other_stem(stem, derived_id("img", call_id, 0), attempt))
            if record is None or record.image.call_id == call_id:
                return record
        return None

    async def _read_record(self, stem: str) -> Record | None:
        try:
            return read_record(await self._storage.get(record_key(stem)))
        except ObjectNotFound:
            return None
        except BrokenRecord as error:
            log.error("record cannot be read", key=record_key(stem), reason=str(error))
            return None

    async def discard(self, stem: str, call_id: str) -> None:
        """Remove what a call that delivers nothing any more has stored, its record included."""
        record = await self.find_record(stem, call_id)
        if record is not None:
            await self._take_back(record_key(stem_of(record.image.key)), record.image.key)
        await self.discard_bytes(stem)

    async def discard_bytes(self, stem: str) -> None:
        """Remove an image that never got its record; one whose record cannot be read stays for whoever can."""
        with contextlib.suppress(ObjectNotFound):
            await self._storage.stat(record_key(stem))
            return
        for extension in EXTENSIONS.values():
            await self._storage.delete(f"{stem}.{extension}")

    async def _store_under(self, image: Image, spooled: SpooledImage, charge: Reservation | None) -> Record:
        record = Record(image, charge)
        pair = ImageWithRecord(
            key=image.key,
            path=spooled.path,
            content_type=image.mime_type,
            metadata=object_metadata(image),
            record_key=record_key(stem_of(image.key)),
            record=write_record(record),
        )
        try:
            await self._storage.put_image(pair, between=partial(self._fail_points.reach, "bytes_stored"))
        except MaybeStored as error:
            raise LeftBehind(str(error)) from error
        return record

    async def _take_back(self, *keys: str) -> None:
        try:
            for key in keys:
                await self._storage.delete(key)
        except StorageUnavailable as error:
            raise LeftBehind(str(error)) from error
