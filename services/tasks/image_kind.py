"""The tasks that make images: one, or several of one prompt side by side."""

import asyncio

from core.errors import AppError, DependencyUnavailable
from services.generation.shares import ShareService
from services.tasks.image_order import ImageOrder, made, share_of
from services.tasks.kinds import TaskRun
from services.tasks.models import ItemResult, Task, TaskError
from services.tasks.references import TaskReferences


class ImageKind:
    """`side_by_side`: BATCH_CONCURRENCY."""

    def __init__(self, name: str, shares: ShareService, references: TaskReferences, *, side_by_side: int) -> None:
        self.name = name
        self._shares = shares
        self._references = references
        self._side_by_side = side_by_side

    async def run(self, run: TaskRun) -> None:
        places = asyncio.Semaphore(self._side_by_side)
        try:
            async with asyncio.TaskGroup() as group:
                for index in run.task.missing:
                    group.create_task(self._item(run, index, places))
        except ExceptionGroup as failures:
            # Each item tells of its own failure; what comes here ends all of them, and the first says why.
            raise failures.exceptions[0] from None

    async def find(self, task: Task, index: int) -> ItemResult | None:
        image = await self._shares.find(ImageOrder.on(task).command(task.user_id), share_of(task, index))
        return None if image is None else made(index, image)

    async def clear(self, task: Task) -> None:
        command = ImageOrder.on(task).command(task.user_id)
        for index in task.missing:
            await self._shares.clear(command, share_of(task, index))

    async def _item(self, run: TaskRun, index: int, places: asyncio.Semaphore) -> None:
        async with places:
            try:
                result = await self._made(run, index)
            except DependencyUnavailable:
                raise
            except AppError as error:
                result = ItemResult(index, error=TaskError.of(error))
            await run.deliver(result)

    async def _made(self, run: TaskRun, index: int) -> ItemResult:
        task, order = run.task, ImageOrder.on(run.task)
        references = await self._references.fetch(task.id, order.references)
        command = order.command(task.user_id, run.own_key, references)
        with run.calling(index):
            return made(index, await self._shares.make(command, share_of(task, index)))
