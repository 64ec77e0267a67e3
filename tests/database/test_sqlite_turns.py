"""Who writes into SQLite one transaction after the other lets another process have its turn."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from core.clients.sqlite import SQLiteDatabase
from core.clients.sqlite_turns import PAUSE_SECONDS, Turns
from tests.database.numbers import insert, numbers

pytestmark = pytest.mark.sqlite_only

WAIT = """
import sys, time
from pathlib import Path
from core.clients.sqlite_turns import Turns
with Turns(Path(sys.argv[1])).waiting():
    print("waiting", flush=True)
    time.sleep(60)
"""


def seconds_until_the_next(turns: Turns) -> float:
    """After a transaction has ended, as short as it comes in a few tries."""

    def once() -> float:
        turns.ended()
        ended_at = time.monotonic()
        turns.let_others_go_first()
        return time.monotonic() - ended_at

    return min(once() for _ in range(20))


def test_who_has_just_written_pauses_while_another_process_waits_and_until_it_dies(tmp_path: Path) -> None:
    turns = Turns(tmp_path / "turns")
    assert seconds_until_the_next(turns) < PAUSE_SECONDS
    waiting = subprocess.Popen(
        [sys.executable, "-c", WAIT, str(tmp_path / "turns")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waiting\n"
        assert seconds_until_the_next(turns) >= 0.9 * PAUSE_SECONDS
    finally:
        waiting.kill()
        waiting.communicate()
    assert seconds_until_the_next(turns) < PAUSE_SECONDS
    turns.close()


def test_who_waits_is_not_waited_for_any_more_once_it_has_its_turn(tmp_path: Path) -> None:
    busy, patient = Turns(tmp_path / "turns"), Turns(tmp_path / "turns")
    with patient.waiting():
        assert seconds_until_the_next(busy) >= 0.9 * PAUSE_SECONDS
    assert seconds_until_the_next(busy) < PAUSE_SECONDS
    busy.close()
    patient.close()


async def test_a_write_that_waits_is_seen_by_other_processes_until_it_has_its_turn(
    database: SQLiteDatabase, path: Path
) -> None:
    turns = Turns(path.with_name(f"{path.name}-turns"))
    await database.write(lambda connection: insert(connection, 1))
    assert seconds_until_the_next(turns) < PAUSE_SECONDS
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        write = asyncio.create_task(database.write(lambda connection: insert(connection, 2)))
        await asyncio.sleep(0.2)
        assert seconds_until_the_next(turns) >= 0.9 * PAUSE_SECONDS
        other.execute("ROLLBACK")
        await write
    assert seconds_until_the_next(turns) < PAUSE_SECONDS
    assert await database.read(numbers) == [1, 2]
    turns.close()
