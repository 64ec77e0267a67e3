"""From a provider's file to a kept image: the bytes as they came, their record, then index and charge in one."""

import asyncio
import contextlib
import itertools
import urllib.parse
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from PIL import Image as Pixels
from PIL import UnidentifiedImageError

from core.clock import rfc3339
from core.errors import AppError, StorageUnavailable
from core.failpoints import FailPoints
from core.ids import derived_id
from core.logging import get_logger
from services.generation.models import ImageFacts
from services.history.models import Image
from services.history.records import BrokenRecord, Record, read_record, write_record
from services.history.service import HistoryService
from services.providers.base import SpooledImage
from services.providers.errors import ProviderUnavailable
from services.quota.errors import HoldGone
from services.quota.models import Reservation
from services.quota.service import QuotaService
from services.quota.task_quota import TaskQuota
from services.storage.base import Storage
from services.storage.errors import MaybeStored, ObjectExists, ObjectNotFound
from services.storage.names import EXTENSIONS, other_stem, record_key, stem_of

NAME_TRIES = 4
METADATA_PROMPT_BYTES = 1024
MIME_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}

log = get_logger(__name__)


class LeftBehind(StorageUnavailable):
    """What was stored of an image could not be taken back; it is found again by its call's reservation."""


def probe(path: Path) -> ImageFacts:
    """Read format and size from the head of a file. Raises ProviderUnavailable when it is no image that we keep."""
    try:
        with Pixels.open(path, formats=tuple(MIME_TYPES)) as picture:
            return ImageFacts(MIME_TYPES[picture.format or ""], picture.width, picture.height)
    except (UnidentifiedImageError, KeyError, ValueError, SyntaxError, Pixels.DecompressionBombError) as error:
        raise ProviderUnavailable(f"the provider sent no image: {error}", retryable=False) from error


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

    async def probe(self, spooled: SpooledImage) -> ImageFacts:
        return await asyncio.get_running_loop().run_in_executor(self._threads, probe, spooled.path)

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
        metadata = object_metadata(image)
        try:
            await self._storage.put_file(image.key, spooled.path, content_type=image.mime_type, metadata=metadata)
        except MaybeStored as error:
            raise LeftBehind(str(error)) from error
        self._fail_points.reach("bytes_stored")
        record = Record(image, charge)
        key = record_key(stem_of(image.key))
        try:
            await self._storage.put(key, write_record(record), content_type="application/json")
        except AppError:
            # The record too: a bucket may have taken it and lost the answer, and a record without bytes must not stay.
            await self._take_back(key, image.key)
            raise
        return record

    async def _take_back(self, *keys: str) -> None:
        try:
            for key in keys:
                await self._storage.delete(key)
        except StorageUnavailable as error:
            raise LeftBehind(str(error)) from error


def object_metadata(image: Image) -> dict[str, str]:
    """What the old app kept as object metadata, and ours besides (SPEC section 14)."""
    quoted = _quoted(image.prompt)
    metadata = {
        "prompt": quoted,
        "mode": image.mode,
        "duration": str(image.duration),
        "aspect-ratio": image.aspect_ratio,
        "resolution": image.resolution,
        "created-at": rfc3339(image.created_at),
        "image-id": image.id,
        "provider": image.provider,
        "model": image.model,
    }
    optional = {"session-id": image.session_id, "chat-index": image.chat_index}
    metadata |= {name: str(value) for name, value in optional.items() if value is not None}
    # A header is ASCII; an operator may have named a model otherwise.
    return {name: value if value.isascii() else _quoted(value) for name, value in metadata.items()}


def _quoted(prompt: str) -> str:
    """URL-quoted, and cut between two characters, so that what is left can be read back."""
    whole = urllib.parse.quote(prompt)
    if len(whole) <= METADATA_PROMPT_BYTES:
        return whole
    quoted = [urllib.parse.quote(character) for character in prompt[:METADATA_PROMPT_BYTES]]
    lengths = itertools.accumulate(len(part) for part in quoted)
    return "".join(part for part, length in zip(quoted, lengths, strict=True) if length <= METADATA_PROMPT_BYTES)
