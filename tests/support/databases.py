"""Where the services under test keep their database: SQLite in DATA_DIR, or PostgreSQL with `--database=postgresql`."""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from core.clients.sqlite import make_sqlite_engine
from core.settings import embedded_database
from migrations.postgresql import run
from migrations.upgrade import upgrade
from tests.support.postgresql import PostgresServer

Result = TypeVar("Result")

TEMPLATE = "migrated"
_REFUSING_IMAGES = {
    "sqlite": (
        "CREATE TRIGGER refusing BEFORE INSERT ON images BEGIN SELECT RAISE(ABORT, 'refused'); END",
        "DROP TRIGGER refusing",
    ),
    "postgresql": (
        "ALTER TABLE images ADD CONSTRAINT refusing CHECK (false) NOT VALID",
        "ALTER TABLE images DROP CONSTRAINT refusing",
    ),
}


class Databases:
    """One for each DATA_DIR. `server`: set for the length of a test session on PostgreSQL."""

    def __init__(self) -> None:
        self.server: PostgresServer | None = None
        self._made: set[str] = set()

    def settings(self, data_dir: Path) -> dict[str, str]:
        """What a service needs to find the database of a DATA_DIR, which is there, empty and migrated, from now on.

        With SQLite nothing: scripts/serve makes the file.
        """
        if self.server is None:
            return {}
        name = name_of(data_dir)
        if name not in self._made:
            self.server.sql(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
            self._made.add(name)
        return {"DATABASE_URL": self.server.url(name)}

    def laid_out(self, data_dir: Path, empty_database: Path) -> dict[str, str]:
        """The same for a service that is started without scripts/serve."""
        data_dir.mkdir(parents=True, exist_ok=True)
        if self.server is None and not embedded_database(data_dir).exists():
            shutil.copy(empty_database, embedded_database(data_dir))
        return self.settings(data_dir)

    def run(self, data_dir: Path, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a transaction of its own, beside the service."""
        if self.server is None:
            engine = make_sqlite_engine(embedded_database(data_dir))
            with engine.begin() as connection:
                result = work(connection)
            engine.dispose()
            return result
        # The driver needs an event loop, and the test's own may be running in this thread.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(run, self.server.url(name_of(data_dir)), work).result()

    def ask(self, data_dir: Path, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Rows."""
        return self.run(
            data_dir, lambda connection: [tuple(row) for row in connection.execute(text(statement), values)]
        )

    def change(self, data_dir: Path, statement: str, **values: Any) -> int:
        """How many rows were changed."""
        return self.run(data_dir, lambda connection: connection.execute(text(statement), values).rowcount)

    def lose(self, data_dir: Path) -> None:
        """All that is in it, while no service runs. SQLite has no file then, PostgreSQL empty tables."""
        if self.server is None:
            for path in data_dir.glob(f"{embedded_database(data_dir).name}*"):
                path.unlink()
            return
        self.drop([name_of(data_dir)])
        self.settings(data_dir)

    def contents(self, data_dir: Path) -> bytes:
        """All that it keeps, for a look whether something is in there that should not be."""
        if self.server is not None:
            return self.server.dump(name_of(data_dir))
        return b"".join(path.read_bytes() for path in data_dir.glob(f"{embedded_database(data_dir).name}*"))

    @contextmanager
    def locked(self, data_dir: Path) -> Iterator[None]:
        """Readers go on, writers have to wait: as for a backup, or a process that is stuck."""
        if self.server is not None:
            with self.holding(data_dir, "LOCK TABLE images, charges, users IN EXCLUSIVE MODE"):
                yield
            return
        with closing(sqlite3.connect(embedded_database(data_dir), isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.execute("ROLLBACK")

    @contextmanager
    def holding(self, data_dir: Path, statement: str, *, commit: bool = False) -> Iterator[None]:
        """With PostgreSQL alone: see the server."""
        assert self.server is not None
        with self.server.holding(statement, name_of(data_dir), commit=commit):
            yield

    @contextmanager
    def refusing_images(self, data_dir: Path) -> Iterator[None]:
        """No row of an image is let in, by a rule that none of the service's own rows should break."""
        begin, end = _REFUSING_IMAGES["sqlite" if self.server is None else "postgresql"]
        self.change(data_dir, begin)
        yield
        self.change(data_dir, end)

    def start_over(self, server: PostgresServer) -> None:
        self.server = server
        server.sql(f"CREATE DATABASE {TEMPLATE}")
        upgrade(server.url(TEMPLATE))

    def made(self) -> frozenset[str]:
        """Names of those that are there by now."""
        return frozenset(self._made)

    def drop(self, names: Iterable[str]) -> None:
        for name in names:
            assert self.server is not None
            self.server.sql(f"DROP DATABASE {name} WITH (FORCE)")
            self._made.remove(name)


databases = Databases()


def name_of(data_dir: Path) -> str:
    return f"test_{hashlib.sha256(str(data_dir.absolute()).encode()).hexdigest()[:16]}"
