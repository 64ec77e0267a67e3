"""Objects as files in one folder. The record beside an image holds what S3 would keep as metadata."""

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar

from core.errors import StorageUnavailable
from services.storage.base import ImageWithRecord, ObjectInfo
from services.storage.errors import MaybeStored, ObjectExists, ObjectNotFound
from services.storage.keys import check_key, check_prefix
from services.storage.spool import Spool, write_new

P = ParamSpec("P")
Result = TypeVar("Result")

READ_BYTES = 256 * 1024
LIST_PAGE = 500
FOLDER_TRIES = 3  # a deletion may take an emptied folder away at any moment
_NO_OBJECT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class LocalStorage:
    """A `Storage` in `folder`. File work runs in `threads`, off the event loop."""

    backend = "local"

    def __init__(self, folder: Path, spool: Spool, threads: Executor) -> None:
        # A folder that cannot be made is for the health report to tell, and for each call to fail on.
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._spool = spool
        self._threads = threads

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        await self._run(self._put, self._path(key), data)

    async def put_file(
        self, key: str, path: Path, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        await self._run(self._move_new, path, self._path(key))

    async def put_image(self, image: ImageWithRecord, *, between: Callable[[], None]) -> None:
        # In one job: each hand-over to a thread costs as much as the work that is done there.
        await self._run(self._put_image, image, self._path(image.key), self._path(image.record_key), between)

    async def get(self, key: str) -> bytes:
        return await self._run_on_object(self._path(key).read_bytes)

    async def stat(self, key: str) -> ObjectInfo:
        result = await self._run_on_object(_stat_file, self._path(key))
        return ObjectInfo(key, result.st_size, result.st_mtime_ns // 1_000_000)

    async def metadata(self, key: str) -> dict[str, str]:
        await self.stat(key)
        return {}

    async def stream(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        file = await self._run_on_object(self._path(key).open, "rb")
        with file:
            if start:
                file.seek(start)
            left = length
            while left is None or left > 0:
                piece = await self._run(file.read, READ_BYTES if left is None else min(READ_BYTES, left))
                if not piece:
                    return
                left = None if left is None else left - len(piece)
                yield piece

    async def delete(self, key: str) -> None:
        with contextlib.suppress(ObjectNotFound):
            await self._run_on_object(self._remove, self._path(key))

    async def delete_many(self, keys: Sequence[str]) -> dict[str, str]:
        return await self._run(self._remove_all, keys)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        check_prefix(prefix)
        walk = self._walk(prefix)
        while page := await self._run(lambda: tuple(islice(walk, LIST_PAGE))):
            for info in page:
                yield info

    async def check(self) -> None:
        await self._run(self._check)

    async def _run(self, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: work(*args, **kwargs))
        except OSError as error:
            raise StorageUnavailable(str(error)) from error

    async def _run_on_object(self, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Work on an object that may not be there. A folder is no object, nor is what would lie under a file."""
        try:
            return await self._run(work, *args, **kwargs)
        except StorageUnavailable as error:
            missing = isinstance(error.__cause__, _NO_OBJECT)
            # Without its folder the storage is broken; taking all objects for gone would lose them.
            if missing and await self._run(self._folder.is_dir):
                raise ObjectNotFound(str(error)) from error
            raise

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._folder / key

    def _put(self, path: Path, data: bytes) -> None:
        draft = self._spool.new_path()
        try:
            write_new(draft, data)
            _with_parent(path, lambda: draft.replace(path))
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def _put_image(self, image: ImageWithRecord, path: Path, record: Path, between: Callable[[], None]) -> None:
        self._move_new(image.path, path)
        between()
        try:
            self._put(record, image.record)
        except OSError:
            try:
                path.unlink()
            except OSError as error:
                raise MaybeStored(str(error)) from error
            raise

    @staticmethod
    def _move_new(draft: Path, path: Path) -> None:
        try:
            # A hard link, unlike a rename, refuses to take the place of another file.
            _with_parent(path, lambda: os.link(draft, path))
        except FileExistsError as error:
            raise ObjectExists(str(path)) from error
        draft.unlink()

    def _remove(self, path: Path) -> None:
        path.unlink()
        # A folder that nothing is in any more would still say whose it was.
        with contextlib.suppress(OSError):
            for folder in path.parents:
                if folder == self._folder:
                    return
                folder.rmdir()

    def _remove_all(self, keys: Sequence[str]) -> dict[str, str]:
        left = {}
        for key in keys:
            try:
                self._remove(self._path(key))
            except _NO_OBJECT:
                continue
            except (OSError, ValueError) as error:
                left[key] = str(error)
        if not self._folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._folder))
        return left

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        top, _, start = prefix.rpartition("/")
        folder = self._folder / top if top else self._folder
        yield from self._walk_folder(folder, start)

    def _walk_folder(self, folder: Path, start: str = "") -> Iterator[ObjectInfo]:
        try:
            entries = [entry for entry in os.scandir(folder) if entry.name.startswith(start)]
        except (FileNotFoundError, NotADirectoryError):
            if not self._folder.is_dir():
                raise
            return
        # S3 orders whole keys, in which the "/" after a folder's name takes part.
        entries.sort(key=lambda entry: entry.name + "/" if entry.is_dir() else entry.name)
        for entry in entries:
            if entry.is_dir():
                yield from self._walk_folder(Path(entry.path))
            else:
                with contextlib.suppress(FileNotFoundError):
                    result = entry.stat()
                    key = Path(entry.path).relative_to(self._folder).as_posix()
                    yield ObjectInfo(key, result.st_size, result.st_mtime_ns // 1_000_000)

    def _check(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._spool.new_path()
        draft.write_bytes(b"ok")
        draft.unlink()
        if not os.access(self._folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self._folder))


def _stat_file(path: Path) -> os.stat_result:
    result = path.stat()
    if stat.S_ISDIR(result.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return result


def _with_parent(path: Path, work: Callable[[], object]) -> None:
    """Do `work`, which puts a file at `path`; the day's folder is made when it is missing, not looked for each time."""
    for _ in range(FOLDER_TRIES):
        with contextlib.suppress(FileNotFoundError):
            work()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
    work()
