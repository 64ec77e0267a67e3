"""Writes that share a transaction."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from core.clients.database import Database
from core.clients.together import Together
from tests.database.numbers import insert


async def test_those_that_come_while_one_is_written_go_together_and_each_has_its_own_answer(
    database: Database,
) -> None:
    sizes = list[int]()

    def work(connection: Connection, items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        for item in items:
            insert(connection, item)
        return [10 * item for item in items]

    together = Together(database, work)
    assert await asyncio.gather(*(together.write(number) for number in range(50))) == list(range(0, 500, 10))
    assert sum(sizes) == 50
    assert len(sizes) < 10
    assert await together.write(50) == 500


async def test_one_that_cannot_be_written_does_not_keep_the_others_from_it(database: Database) -> None:
    def work(connection: Connection, items: Sequence[int]) -> list[int]:
        for item in items:
            insert(connection, item)
        return list(items)

    together = Together(database, work)
    await together.write(3)
    answers = await asyncio.gather(*(together.write(number) for number in range(6)), return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, int)] == [0, 1, 2, 4, 5]
    assert isinstance(answers[3], IntegrityError)
    with pytest.raises(IntegrityError):
        await together.write(5)
