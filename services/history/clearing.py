"""Clearing histories: a wish that is noted first, and carried out by whoever comes to it."""

import time
from functools import partial

from core.clients.database import Database
from core.clock import now_ms
from core.failpoints import FailPoints
from core.ids import new_id
from services.history import trash
from services.history.removal import REMOVE_BATCH, Remover
from services.history.trash import Clearance, Scope

CLEAR_BATCH = 1000  # rows that one transaction marks, in about 20 ms
NOTED_BATCH = 100
# How long a caller waits for objects to go; the worker goes on from there.
REMOVE_SECONDS = 10.0


class Clearings:
    def __init__(self, database: Database, remover: Remover, fail_points: FailPoints) -> None:
        self._database = database
        self._remover = remover
        self._fail_points = fail_points

    async def clear(self, user_id: str, scope: Scope) -> int:
        """Mark all that is meant. Answers how many images that is; objects go by `remove_taken_of`, or the worker."""
        clearance = Clearance(new_id("clr"), user_id, scope, now_ms())
        count = await self._database.write(lambda connection: trash.note_clearance(connection, clearance))
        self._fail_points.reach("clearance_noted")
        await self._carry_out(clearance)
        return count

    async def carry_out_noted(self) -> None:
        """Go on with the wishes of which a process died before it was through."""
        while noted := await self._database.read(lambda connection: trash.noted_clearances(connection, NOTED_BATCH)):
            for clearance in noted:
                await self._carry_out(clearance)

    async def remove_taken_of(self, user_id: str) -> None:
        """Remove what was taken of a user, until 10 s have gone by. Raises StorageUnavailable."""
        deadline = time.monotonic() + REMOVE_SECONDS
        taken_of = partial(trash.taken_of, user_id=user_id, limit=REMOVE_BATCH)
        while doomed := await self._database.read(taken_of):
            await self._remover.remove_all(doomed)
            if time.monotonic() > deadline:
                return

    async def _carry_out(self, clearance: Clearance) -> None:
        """In short transactions, so that others get their turn; a worker may do the same at the same time."""
        while await self._database.write(lambda connection: trash.clear_some(connection, clearance, CLEAR_BATCH)):
            self._fail_points.reach("batch_cleared")
        self._fail_points.reach("all_cleared")
