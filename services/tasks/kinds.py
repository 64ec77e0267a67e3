"""What a kind of task is, and what it is given to do its work."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from pydantic import SecretStr

from services.tasks.models import ItemResult, Task

Deliver = Callable[[tuple[ItemResult, ...], int, str], Awaitable[None]]


class TaskRun:
    """One run of a task on this worker. `own_key`: the caller's key that came with it."""

    def __init__(self, task: Task, own_key: SecretStr | None, deliver: Deliver) -> None:
        self.task = task
        self.own_key = own_key
        self._deliver = deliver
        self._results = {result.index: result for result in task.results if result.is_done}
        self._writing = asyncio.Lock()
        self._sent: set[int] = set()

    @property
    def results(self) -> tuple[ItemResult, ...]:
        """So far, by index."""
        return tuple(self._results[index] for index in sorted(self._results))

    @property
    def sent(self) -> frozenset[int]:
        """Items whose call is with the provider now."""
        return frozenset(self._sent)

    async def report(self, percent: int, message: str) -> None:
        """How far the task is, 0–100. Raises TaskLost when it is not this worker's any more."""
        async with self._writing:
            await self._deliver(self.results, percent, message)

    async def deliver(self, result: ItemResult) -> None:
        """What became of an item; with the last one the run is over, and its end tells of it. Raises as `report`."""
        self._results[result.index] = result
        if len(self._results) == self.task.total:
            return
        percent = 100 * len(self._results) // self.task.total
        await self.report(percent, f"{len(self._results)} of {self.task.total}")

    @contextmanager
    def calling(self, index: int) -> Iterator[None]:
        """While the provider is asked for an item."""
        self._sent.add(index)
        try:
            yield
        finally:
            self._sent.discard(index)


class TaskKind(Protocol):
    """Kinds are named in the container; a run may come again after a worker's death, so it looks for what it left."""

    name: str

    async def run(self, run: TaskRun) -> None:
        """Deliver each item of `run.task.missing`. Raises AppError when nothing more can be done for all of them."""

    async def find(self, task: Task, index: int) -> ItemResult | None:
        """What a run that was broken off has made of an item without having delivered it."""

    async def clear(self, task: Task) -> None:
        """After the end: remove what is left of items that were not delivered. May be called again."""
