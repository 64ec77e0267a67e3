"""Is a database at the newest revision? Read without Alembic, whose import costs more than the rest of a start."""

import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

# What stands for the database where an error names it: its address holds a password.
GIVEN = "the database of DATABASE_URL"
VERSIONS = Path(__file__).parent / "versions"
_REVISION = re.compile(r"^(down_revision|revision)\b[^=\n]*=\s*(?:[\"']([^\"']+)[\"']|None)", re.MULTILINE)


class DatabaseRefused(Exception):
    """The database is none that this version can start with; `str()` is one line."""


class UnknownRevision(DatabaseRefused):
    """The database was made by another version of this code."""

    def __init__(self, database: str, revision: str) -> None:
        super().__init__(
            f"{database} is at revision {revision}, which this version does not know: "
            "start the version that made it, or a newer one"
        )


class DatabaseBehind(DatabaseRefused):
    """The database of DATABASE_URL, which is the operator's to upgrade, is older than this version."""

    def __init__(self, revision: str | None) -> None:
        state = "is empty" if revision is None else f"is at revision {revision}, which is older than this version"
        super().__init__(f"{GIVEN} {state}: run `{sys.executable} -m migrations upgrade`, then start again")


class DatabaseUnusable(DatabaseRefused):
    """The server of DATABASE_URL can't be reached, refuses us, or has no such database."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{GIVEN} can't be used: {reason}")


def current_is_head(database_path: Path, versions: Path = VERSIONS) -> bool:
    """False when there is something to upgrade (no file and no table count as that).

    Raises UnknownRevision when the file is at a revision that is not in `versions`.
    """
    return is_head(_current(database_path), str(database_path), versions)


def is_head(revision: str | None, database: str, versions: Path = VERSIONS) -> bool:
    """The same of a revision that was read from a `database` of this name."""
    if revision is None:
        return False
    parents = _parents(versions)
    if revision not in parents:
        raise UnknownRevision(database, revision)
    return revision not in parents.values()


def _current(database_path: Path) -> str | None:
    if not database_path.exists():
        return None
    with closing(sqlite3.connect(database_path)) as connection:
        tables = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
        if connection.execute(tables).fetchone() is None:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _parents(versions: Path) -> dict[str, str | None]:
    """Each known revision and the one before it."""
    parents: dict[str, str | None] = {}
    for path in versions.glob("*.py"):
        found = {name: value or None for name, value in _REVISION.findall(path.read_text(encoding="utf-8"))}
        revision = found.get("revision")
        if revision is not None:
            parents[revision] = found.get("down_revision")
    return parents
