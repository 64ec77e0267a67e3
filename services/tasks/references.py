"""The images that a task is made from: they wait in storage, where every worker finds them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from core.clock import Milliseconds
from services.references.models import ReferenceImage
from services.storage.base import Storage
from services.storage.errors import ObjectExists
from services.storage.fetching import fetch_file
from services.storage.spool import Spool

# How long those of a task that did not succeed are there for another try.
KEPT_MS = 24 * 3600 * 1000
_ROOT = "tasks/"


class TaskReferences:
    """Under `tasks/{task id}/`, by names that are no image's, so that they never stand in a public bucket."""

    def __init__(self, storage: Storage, spool: Spool, threads: Executor) -> None:
        self._storage = storage
        self._spool = spool
        self._threads = threads

    async def keep(self, task_id: str, references: Sequence[ReferenceImage]) -> list[dict[str, Any]]:
        """Store them; their files are gone then. Answers what `fetch` needs."""
        for index, reference in enumerate(references):
            try:
                await self._storage.put_file(_key(task_id, index), reference.path, content_type=reference.mime_type)
            except ObjectExists:
                reference.remove()  # an earlier try of the same request has stored it
        return [{name: value for name, value in vars(reference).items() if name != "path"} for reference in references]

    async def fetch(self, task_id: str, kept: Sequence[Mapping[str, Any]]) -> tuple[ReferenceImage, ...]:
        """Files of them, which whoever asks removes. Raises StorageUnavailable."""
        fetched: list[ReferenceImage] = []
        try:
            for index, facts in enumerate(kept):
                reference = ReferenceImage(path=self._spool.new_path(), **facts)
                fetched.append(reference)
                await fetch_file(self._storage, _key(task_id, index), reference.path, reference.size, self._threads)
        except BaseException:
            for reference in fetched:
                reference.remove()
            raise
        return tuple(fetched)

    async def stored_before(self, before: Milliseconds) -> AsyncIterator[tuple[str, str]]:
        """Task id and key of each that has been there since then or longer."""
        async for stored in self._storage.list(_ROOT):
            if stored.modified_at < before:
                yield stored.key.removeprefix(_ROOT).partition("/")[0], stored.key

    async def discard(self, keys: Sequence[str]) -> None:
        """Remove what belongs to no task. Raises StorageUnavailable; what else is left is there the next time."""
        await self._storage.delete_many(keys)

    async def remove(self, task_id: str, count: int) -> None:
        for index in range(count):
            await self._storage.delete(_key(task_id, index))


def _key(task_id: str, index: int) -> str:
    return f"{_ROOT}{task_id}/{index}"
