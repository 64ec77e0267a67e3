"""What every storage promises: local files now, S3 alike. `tests/storage/contract.py` holds each of them to it.

Keys are paths of SPEC section 14 with `/` between the parts; they are made by the service, never by a caller.
Every method raises StorageUnavailable when the bucket or the disk fails, and all but `delete_many` ValueError for a key
or prefix that leads out of the storage; so do the others but `list` for a key of two spellings, such as `a//b`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.clock import Milliseconds


@dataclass(frozen=True)
class ObjectInfo:
    """`size` in bytes."""

    key: str
    size: int
    modified_at: Milliseconds


@dataclass(frozen=True)
class ImageWithRecord:
    """A spooled file, and the JSON record that stands beside it."""

    key: str
    path: Path
    content_type: str
    metadata: Mapping[str, str]
    record_key: str
    record: bytes


class Reader(Protocol):
    """Storage as far as whoever changes nothing in it needs it."""

    async def get(self, key: str) -> bytes:
        """Read a small object whole. Raises ObjectNotFound."""

    async def stat(self, key: str) -> ObjectInfo:
        """Raises ObjectNotFound."""

    async def metadata(self, key: str) -> Mapping[str, str]:
        """What `put_file` was given, names in lower case and with hyphens; of a local file nothing, since its record
        has it all. Raises ObjectNotFound.
        """

    def stream(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """Read an object, or `length` bytes of it from `start`, in pieces. Raises ObjectNotFound."""

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """All objects whose key starts with `prefix`, in the order of their keys."""


class Storage(Reader, Protocol):
    @property
    def backend(self) -> str:
        """`local` or `s3`, for the health report."""

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        """Store a small object whole, in place of one that was there. A reader sees the old or the new one."""

    async def put_file(
        self, key: str, path: Path, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Store a spooled file under a new key and remove it. Raises ObjectExists, and then the file is still there.

        When the storage fails nothing is stored, or, if that is not certain, it raises MaybeStored.
        """

    async def put_image(self, image: ImageWithRecord, *, between: Callable[[], None]) -> None:
        """Store a file as `put_file` does, call `between`, then store its record: both, or neither.

        Raises as `put_file`, MaybeStored also where what was stored could not be taken back.
        """

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine."""

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Remove objects. Answers those that are left, each with the reason: one that cannot go, or is no key at all,
        does not keep the others. Raises StorageUnavailable when the storage as a whole fails; any may be gone by then.
        """

    async def check(self) -> None:
        """Raises StorageUnavailable unless objects can be written now."""
