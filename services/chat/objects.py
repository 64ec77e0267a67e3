"""What a chat keeps in storage: the images that came with its messages, and what its answers have to be given back as.

`chats/{chat id}/{turn id}/{number}` and `…/marks`: names that are no image's, so that they never stand in a public
bucket. They go with the chat; what is left of a turn that came to nothing, or of a chat whose time is over, the worker
removes.
"""

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import Executor
from pathlib import Path

import orjson

from core.clock import Milliseconds
from core.errors import StorageUnavailable
from core.logging import get_logger
from services.chat.models import Attachment, MarkedPart, Turn
from services.providers.base import AnswerPart, EarlierPart, KeptText
from services.references.models import ReferenceImage
from services.storage.base import Storage
from services.storage.errors import ObjectNotFound
from services.storage.fetching import fetch_file
from services.storage.spool import Spool
from services.storage.threads import on_disk

ROOT = "chats/"
_MARKS = "marks"

log = get_logger(__name__)


class ChatObjects:
    def __init__(self, storage: Storage, spool: Spool, threads: Executor) -> None:
        self._storage = storage
        self._spool = spool
        self._threads = threads

    async def second_names(self, references: Sequence[ReferenceImage]) -> list[Path]:
        """Of files that the pipeline will remove while they are still to be kept."""
        paths = [self._spool.new_path() for _ in references]

        def link() -> None:
            for path, reference in zip(paths, references, strict=True):
                os.link(reference.path, path)

        await on_disk(self._threads, link)
        return paths

    async def keep(self, chat_id: str, turn_id: str, paths: Sequence[Path], kinds: Sequence[Attachment]) -> None:
        """Store the images of a message; their files are gone then. Raises StorageUnavailable."""
        for number, (path, kind) in enumerate(zip(paths, kinds, strict=True)):
            await self._storage.put_file(_key(chat_id, turn_id, number), path, content_type=kind.mime_type)

    async def keep_parts(self, chat_id: str, turn_id: str, parts: Sequence[AnswerPart]) -> tuple[MarkedPart, ...]:
        """Store what an answer has to be given back as. Without it the chat goes on, as with another model."""
        marks, marked = [], []
        for part in parts:
            text, signature = _quoted(part.text), _quoted(part.signature)
            marks += [text or b"", signature or b""]
            marked.append(
                MarkedPart(None if text is None else len(text), None if signature is None else len(signature))
            )
        try:
            if any(marks):
                key = _key(chat_id, turn_id, _MARKS)
                await self._storage.put(key, b"".join(marks), content_type="application/octet-stream")
        except StorageUnavailable as error:
            log.warning("parts of an answer not kept", chat_id=chat_id, reason=str(error))
            return ()
        return tuple(marked)

    async def fetch_attachment(self, chat_id: str, turn: Turn, number: int, path: Path) -> ReferenceImage | None:
        """As a file; None when it is gone. Raises StorageUnavailable."""
        kept = turn.attachments[number]
        image = ReferenceImage(path, kept.mime_type, kept.width, kept.height, 1, kept.size)
        return image if await self._fetched(_key(chat_id, turn.id, number), path, kept.size) else None

    async def fetch_image(self, key: str, image: ReferenceImage) -> ReferenceImage | None:
        """The image that answered a message, as a file; None when it is gone. Raises StorageUnavailable."""
        return image if await self._fetched(key, image.path, image.size) else None

    async def fetch_parts(self, chat_id: str, turn: Turn, path: Path) -> tuple[EarlierPart, ...]:
        """With their texts in a file; none when it is gone. Raises StorageUnavailable."""
        size = turn.marks_size
        if size and not await self._fetched(_key(chat_id, turn.id, _MARKS), path, size):
            return ()
        found, offset = [], 0
        for part in turn.parts:
            text = None if part.text is None else KeptText(path, offset, part.text)
            offset += part.text or 0
            signature = None if part.signature is None else KeptText(path, offset, part.signature)
            offset += part.signature or 0
            found.append(EarlierPart(text, signature))
        return tuple(found)

    async def open_attachment(self, chat_id: str, turn: Turn, number: int) -> AsyncGenerator[bytes]:
        """Its bytes, in pieces. Raises ObjectNotFound or StorageUnavailable."""
        async with contextlib.aclosing(self._storage.stream(_key(chat_id, turn.id, number))) as pieces:
            async for piece in pieces:
                yield piece

    async def remove_turn(self, chat_id: str, turn_id: str) -> None:
        """What a turn that came to nothing has stored."""
        await self._remove_below(f"{ROOT}{chat_id}/{turn_id}/")

    async def remove_chat(self, chat_id: str) -> None:
        await self._remove_below(f"{ROOT}{chat_id}/")

    async def stored_before(self, before: Milliseconds) -> AsyncIterator[tuple[str, str, str]]:
        """Chat id, turn id and key of each object that has been there since then or longer."""
        async for stored in self._storage.list(ROOT):
            if stored.modified_at < before:
                chat_id, _, rest = stored.key.removeprefix(ROOT).partition("/")
                yield chat_id, rest.partition("/")[0], stored.key

    async def discard(self, keys: Sequence[str]) -> None:
        """Raises StorageUnavailable; what else is left is there the next time."""
        await self._storage.delete_many(keys)

    async def _remove_below(self, prefix: str) -> None:
        """What storage has against it is for the worker."""
        try:
            keys = [stored.key async for stored in self._storage.list(prefix)]
            if keys:
                await self._storage.delete_many(keys)
        except StorageUnavailable as error:
            log.warning("objects of a chat are removed later", prefix=prefix, reason=str(error))

    async def _fetched(self, key: str, path: Path, size: int) -> bool:
        try:
            await fetch_file(self._storage, key, path, size, self._threads)
        except ObjectNotFound:
            return False
        return True


def _key(chat_id: str, turn_id: str, name: int | str) -> str:
    return f"{ROOT}{chat_id}/{turn_id}/{name}"


def _quoted(text: str | None) -> bytes | None:
    """As it stands between the quotes of a JSON string."""
    return None if text is None else orjson.dumps(text)[1:-1]
