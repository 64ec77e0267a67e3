"""One image of the old app: what all that is known of it says together, and its place here."""

import asyncio
import hashlib
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import tzinfo
from pathlib import Path

from core.failpoints import FailPoints
from services.history.models import Image
from services.history.object_metadata import object_metadata
from services.history.records import BrokenRecord, Record, read_record, write_record
from services.legacy.models import LegacyEntry, Piece
from services.legacy.report import Report
from services.reindex.foundlings import NoPicture, described, image_id_of
from services.reindex.models import Entry, Run
from services.storage.base import ImageWithRecord, ObjectInfo, Reader, Storage
from services.storage.errors import ObjectExists, ObjectNotFound
from services.storage.names import record_key, stem_of
from services.storage.spool import Spool, SpoolFile, SpoolFileTooLarge
from services.storage.threads import on_disk


@dataclass(frozen=True)
class Source:
    """Where the old app's things lie. `is_own`: in this service's own storage, so that nothing is copied."""

    storage: Reader
    is_own: bool
    zone: tzinfo


class ImageMover:
    def __init__(
        self, source: Source, storage: Storage, spool: Spool, threads: Executor, fail_points: FailPoints
    ) -> None:
        self._source = source
        self._storage = storage
        self._spool = spool
        self._threads = threads
        self._fail_points = fail_points

    async def bring(self, piece: Piece, run: Run[Report]) -> Entry | None:
        """What is to be entered of an image, its bytes and its record in place, but for a dry run; None: it is left."""
        where, info = await self._where(piece)
        try:
            found = await described(where, info, piece.key, piece.known, self._source.zone)
        except ObjectNotFound:
            return None  # gone since it was listed
        except NoPicture:
            run.report.found_odd("no_picture", info.key)
            return None
        if self._is_under_way(piece, found, run):
            return None
        entry = completed(found, piece.entries)
        if run.dry_run:
            return entry
        there = where is self._storage
        image = await self._recorded(entry.image) if there else await self._copied(piece, entry.image, run.report)
        return None if image is None else replace(entry, image=image)

    async def _where(self, piece: Piece) -> tuple[Reader, ObjectInfo]:
        """Where to read it: what the old app had on its disk and in its bucket is one image, and may be here by now."""
        if any(entry.is_in_bucket for entry in piece.entries):
            try:
                return self._storage, await self._storage.stat(piece.key)
            except ObjectNotFound:
                pass
        return self._source.storage, piece.info

    def _is_under_way(self, piece: Piece, found: Entry, run: Run[Report]) -> bool:
        """Whether an object without record and entry may be of a call of this service, which may still write both."""
        if not self._source.is_own or piece.entries:
            return False
        ours = found.image.id != image_id_of(piece.key, piece.known)
        # A file says nothing of whose it is.
        young = self._storage.backend == "local" and found.modified_at > run.settled
        run.report.left += ours
        run.report.under_way += young and not ours
        return ours or young

    async def _copied(self, piece: Piece, image: Image, report: Report) -> Image | None:
        """The image with its bytes and its record in storage."""
        path = await self._fetched(piece.info)
        if path is None:
            report.found_odd("changed", piece.info.key)
            return None
        try:
            await self._storage.put_image(_with_record(image, path), between=self._between)
        except ObjectExists:
            if await self._are_the_same(path, image.key):
                return await self._recorded(image)
            report.found_odd("other_bytes", piece.info.key, f"under {image.key}")
            return None
        finally:
            path.unlink(missing_ok=True)
        report.copied += 1
        report.copied_bytes += image.size
        return image

    async def _fetched(self, info: ObjectInfo) -> Path | None:
        """The bytes in a file; None when they are not as many as they were."""
        file = SpoolFile(self._spool.new_path(), info.size)
        try:
            async for some in self._source.storage.stream(info.key):
                file.write(some)
                await on_disk(self._threads, file.flush)
            whole = file.size == info.size
        except (SpoolFileTooLarge, ObjectNotFound):
            whole = False
        except BaseException:
            file.discard()
            raise
        if not whole:
            file.discard()
            return None
        file.close()
        return file.path

    async def _are_the_same(self, path: Path, key: str) -> bool:
        stored = hashlib.sha256()
        async for some in self._storage.stream(key):
            stored.update(some)
        return await asyncio.to_thread(_digest, path) == stored.digest()

    async def _recorded(self, image: Image) -> Image:
        """The image as its record has it; where there is none it gets one."""
        key = record_key(stem_of(image.key))
        try:
            return read_record(await self._storage.get(key)).image
        except (ObjectNotFound, BrokenRecord):
            await self._storage.put(key, write_record(Record(image, None)), content_type="application/json")
        self._fail_points.reach("recorded")
        return image

    def _between(self) -> None:
        self._fail_points.reach("bytes_copied")


def completed(found: Entry, entries: tuple[LegacyEntry, ...]) -> Entry:
    """What the object says, and what the history says of it: of prompts the longer, since either may be cut.

    Of several entries of one key the newest whose prompt goes with the object's is meant, which was written last.
    """
    if not entries:
        return found
    image, prompt = found.image, found.image.prompt if found.source == "metadata" else ""
    entry = next((entry for entry in entries if prompt and _go_together(entry.prompt, prompt)), entries[0])
    told = entry.told
    whole = replace(
        image,
        prompt=max(entry.prompt, prompt, key=len) or image.prompt,
        mode=told.mode or image.mode,
        aspect_ratio=told.aspect_ratio or image.aspect_ratio,
        resolution=told.resolution or image.resolution,
        duration=image.duration if told.duration is None else told.duration,
        created_at=image.created_at if told.created_at is None else told.created_at,
        session_id=told.session_id or image.session_id,
        chat_index=image.chat_index if told.chat_index is None else told.chat_index,
        text_response=entry.text_response,
        thinking=entry.thinking,
    )
    return replace(found, image=whole, source="history")


def _go_together(one: str, other: str) -> bool:
    """Whether one is the beginning of the other. What a header carries may lose space at its ends."""
    one, other = " ".join(one.split()), " ".join(other.split())
    return one.startswith(other) or other.startswith(one)


def _with_record(image: Image, path: Path) -> ImageWithRecord:
    return ImageWithRecord(
        key=image.key,
        path=path,
        content_type=image.mime_type,
        metadata=object_metadata(image),
        record_key=record_key(stem_of(image.key)),
        record=write_record(Record(image, None)),
    )


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
