"""Writes of a kind that come while others of it are under way go together in one transaction.

What one transaction costs beside its statements, the way to a thread and back above all, is then shared by those that
come at the same time; who comes alone does not wait.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy import Connection

from core.clients.database import Database

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Together(Generic[Item, Answer]):
    """`work` writes some items in one transaction, and answers each of them, in their order."""

    def __init__(self, database: Database, work: Callable[[Connection, Sequence[Item]], Sequence[Answer]]) -> None:
        self._database = database
        self._work = work
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def write(self, item: Item) -> Answer:
        """Raises what writing it alone does."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        return await answer

    async def _write_all(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting, []
            if not await self._are_written(some):
                # One that cannot be written must not keep the others from it.
                for one in some:
                    await self._are_written([one])
        self._writing = None

    async def _are_written(self, some: list[tuple[Item, asyncio.Future[Answer]]]) -> bool:
        """False: several could not be written together."""
        items = [item for item, _ in some]
        writing = self._database.write(lambda connection: self._work(connection, items))
        (outcome,) = await asyncio.gather(writing, return_exceptions=True)
        if isinstance(outcome, BaseException):
            for _, answer in some[: len(some) == 1]:
                if not answer.done():
                    answer.set_exception(outcome)
            return len(some) == 1
        for (_, answer), found in zip(some, outcome, strict=True):
            if not answer.done():  # else nobody waits for it any more
                answer.set_result(found)
        return True
