"""Upgrading the database, and the cheap question whether there is anything to upgrade."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from migrations.head import UnknownRevision, current_is_head
from migrations.upgrade import upgrade

ROOT = Path(__file__).parents[2]


def database_at(path: Path, revision: str | None) -> Path:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        if revision is not None:
            database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        database.commit()
    return path


def revision_of(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("SELECT version_num FROM alembic_version").fetchone()[0])


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """Two revisions in the two spellings that people use."""
    folder = tmp_path / "versions"
    folder.mkdir()
    (folder / "0001_first.py").write_text(
        '"""first"""\n\nrevision: str = "0001"\ndown_revision: str | None = None\n', encoding="utf-8"
    )
    (folder / "0002_second.py").write_text("revision = '0002'\ndown_revision = '0001'\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(("revision", "expected"), [(None, False), ("0001", False), ("0002", True)])
def test_only_the_newest_revision_is_the_head(
    tmp_path: Path, versions: Path, revision: str | None, expected: bool
) -> None:
    assert current_is_head(database_at(tmp_path / "db", revision), versions) is expected


def test_a_database_that_is_not_there_or_empty_is_not_at_the_head(tmp_path: Path, versions: Path) -> None:
    assert not current_is_head(tmp_path / "db", versions)
    assert not (tmp_path / "db").exists()
    (tmp_path / "db").touch()
    assert not current_is_head(tmp_path / "db", versions)


def test_a_revision_that_this_code_does_not_know_is_named(tmp_path: Path, versions: Path) -> None:
    path = database_at(tmp_path / "db", "9999")

    with pytest.raises(UnknownRevision, match="is at revision 9999, which this version does not know"):
        current_is_head(path, versions)
    with pytest.raises(UnknownRevision, match="is at revision 9999, which this version does not know"):
        upgrade(f"sqlite:///{path}")
    assert revision_of(path) == "9999"


def test_an_upgrade_ends_at_the_head_in_wal_mode_and_may_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "db"

    upgrade(f"sqlite:///{path}")

    assert current_is_head(path)
    upgrade(f"sqlite:///{path}")
    assert current_is_head(path)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_upgrades_at_the_same_time_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "db"
    program = f"from migrations.upgrade import upgrade; import sys; sys.stdin.read(); upgrade('sqlite:///{path}')"
    read_end, write_end = os.pipe()
    upgrades = [
        subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=read_end, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    os.close(read_end)
    time.sleep(2)  # all have imported what they need by now and wait for the end of their input
    os.close(write_end)

    outcomes = [(process.communicate(timeout=60)[1], process.returncode) for process in upgrades]

    assert outcomes == [(b"", 0)] * 4
    assert current_is_head(path)
