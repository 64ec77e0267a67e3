"""`python -m scripts.serve`: the whole service as one tree of processes.

The leader owns the lock on DATA_DIR, the listening socket and its children: the embedded Redis (without REDIS_URL),
WEB_CONCURRENCY API processes and the worker. With `--only api` or `--only worker` it has those children alone, on any
number of hosts; all that the hosts share then lies outside of them.
"""

import argparse
import asyncio
import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from setproctitle import setproctitle

from core.clients.embedded_redis import (
    STOP_GRACE_SECONDS,
    EmbeddedRedis,
    EmbeddedRedisError,
    prepare_embedded_redis,
)
from core.instance_lock import InstanceLock, InstanceLocked, acquire_instance_lock
from core.private_folder import NotPrivate, private_folder
from core.security import SETUP_TOKEN_FILE
from core.settings import Settings, SettingsError, embedded_database, load_settings
from core.supervisor import ChildSpec, Supervisor, die_with_parent
from migrations.head import DatabaseRefused, current_is_head
from scripts.probe import answers, reachable

# Connections that the kernel holds while API processes are busy or just being started again.
BACKLOG = 2048
REDIS_LOAD_TIMEOUT_SECONDS = 300
REDIS_STAGE, PYTHON_STAGE = 0, 1
SHARED_MEMORY = Path("/dev/shm")  # of Linux
# Of glibc. Pieces of an image come and go for each one; by default their pages went back to the system each time, and a
# tenth of an image's processor time was spent on having them again. Larger blocks go back at once.
_MALLOC = (f"glibc.malloc.trim_threshold={3 << 20}", f"glibc.malloc.mmap_threshold={1 << 20}")

Part = Literal["api", "worker"]


class StartError(Exception):
    """The service can't start; `str()` is one line."""


@dataclass(frozen=True)
class Folders:
    """What the leader makes in DATA_DIR (absolute); `run` and `metrics` hold nothing that has to outlive the tree."""

    data: Path
    run: Path
    metrics: Path


def main() -> int:
    setproctitle("nbl")
    # Until the supervisor handles signals, SIGTERM unwinds the leader like Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    only = read_arguments()
    try:
        settings = load_settings()
        if only is not None:
            check_parts_are_shared(settings)
        folders = make_folders(settings.storage.data_dir)
        lock = acquire_instance_lock(folders.run / "lock", folders.data)
        try:
            if only == "worker":
                return Leader(settings, folders, lock).serve()
            with contextlib.closing(listen(settings.server.host, settings.server.port)) as listener:
                return Leader(settings, folders, lock, listener, with_worker=only is None).serve()
        finally:
            shutil.rmtree(folders.metrics, ignore_errors=True)
            lock.release()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except (StartError, InstanceLocked, EmbeddedRedisError, DatabaseRefused) as error:
        report(str(error))
        return 1
    except KeyboardInterrupt:
        return 0


def read_arguments() -> Part | None:
    """The part that `--only` names; None for the whole service. A wrong argument ends the process with 2."""
    parser = argparse.ArgumentParser(prog="python -m scripts.serve")
    parser.add_argument("--only", choices=["api", "worker"], help="run these processes alone, the others elsewhere")
    only: Part | None = parser.parse_args().only
    return only


def check_parts_are_shared(settings: Settings) -> None:
    """Raises SettingsError: what is embedded in DATA_DIR belongs to one tree, and another would look into its own."""
    shared = {
        "REDIS_URL": settings.redis.redis_url is not None,
        "DATABASE_URL": bool(settings.database.database_url.get_secret_value()),
        "R2_ENABLED": settings.storage.r2_enabled,
        "SECRET_KEY": settings.security.secret_key is not None,
    }
    problems = [f"{name}: must be set with --only, for all hosts alike" for name, given in shared.items() if not given]
    if problems:
        raise SettingsError(problems)


def run_module(name: str) -> tuple[str, ...]:
    """As `python -m name`, with the collector off until the module switches it on again: while a thousand modules are
    imported it would find nothing and take a sixth of the time.
    """
    return sys.executable, "-c", f"import gc, runpy; gc.disable(); runpy.run_module({name!r}, run_name='__main__')"


def report(line: str) -> None:
    print(f"nbl: {line}", file=sys.stderr, flush=True)


def make_folders(data_dir: Path) -> Folders:
    """Make the folders, and prove that DATA_DIR can be written."""
    data = data_dir.expanduser().absolute()
    run = data / "run"
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        run.mkdir(mode=0o700, exist_ok=True)
        proof = data / f".writable-{os.getpid()}"
        proof.touch()
        proof.unlink()
        metrics = _metrics_folder(run)
    except OSError as error:
        raise StartError(f"DATA_DIR {data} can't be written: {error.strerror}") from error
    return Folders(data, run, metrics)


def _metrics_folder(run: Path) -> Path:
    """Their files are mapped into memory, and a full disk under such a file kills the process that counts (SIGBUS).

    So they lie in shared memory where there is any.
    """
    try:
        return private_folder(SHARED_MEMORY, run)
    except (NotPrivate, OSError):
        folder = run / "metrics"
        folder.mkdir(exist_ok=True)
        return folder


def listen(host: str, port: int) -> socket.socket:
    """Bind the socket of the API; the leader keeps it, so connections wait while an API process starts again."""
    listener: socket.socket | None = None
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = addresses[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"port {port} on {host} is in use: stop what listens there, or set PORT") from error
        raise StartError(f"can't listen on HOST {host}, PORT {port}: {error.strerror}") from error
    return listener


class Leader:
    """Builds the tree's children and hands them to the supervisor: API processes if there is a `listener`."""

    def __init__(
        self,
        settings: Settings,
        folders: Folders,
        lock: InstanceLock,
        listener: socket.socket | None = None,
        *,
        with_worker: bool = True,
    ) -> None:
        self._settings = settings
        self._folders = folders
        self._lock = lock
        self._listener = listener
        self._with_worker = with_worker
        self._environment = {
            "PYTHONUNBUFFERED": "1",  # a line of a process that is killed must not be lost in its buffer
            "MALLOC_ARENA_MAX": "2",  # an arena a thread keeps tens of megabytes that are in no use
            **os.environ,
            "DATA_DIR": str(folders.data),
            "PROMETHEUS_MULTIPROC_DIR": str(folders.metrics),
        }

    def serve(self) -> int:
        """Exit code of the whole; see `Supervisor.run`."""
        for left in self._folders.metrics.iterdir():
            left.unlink()
        self._prepare_database()
        return asyncio.run(self._supervise(self.children()))

    def children(self) -> list[ChildSpec]:
        """What is to run, in the order in which it starts."""
        specs = []
        if self._settings.redis.redis_url is None:
            redis = prepare_embedded_redis(self._folders.data)
            self._environment["REDIS_URL"] = redis.url
            specs.append(self._redis(redis))
        if self._listener is not None:
            specs += [self._api(self._listener)] * self._settings.server.web_concurrency
        if self._with_worker:
            specs.append(self._worker())
        return specs

    async def _supervise(self, specs: list[ChildSpec]) -> int:
        listener = self._listener
        if listener is None:
            return await Supervisor(specs, report, on_ready=self._greet_worker).run()
        # Left open while they stop, the socket would go on taking connections that nobody answers.
        supervisor = Supervisor(specs, report, on_ready=lambda: self._greet(listener), on_stopping=listener.close)
        return await supervisor.run()

    def _prepare_database(self) -> None:
        """Bring the embedded one to this version. One that others may use too is for the operator to upgrade."""
        if self._settings.database.database_url.get_secret_value():
            check = self._run("migrations.check", stderr=subprocess.PIPE)
            if check.returncode:
                raise StartError(check.stderr.strip())
            return
        if current_is_head(embedded_database(self._folders.data)):
            return
        if self._run("migrations", "upgrade").returncode:
            raise StartError("the database could not be brought to this version; nothing was started")

    def _run(self, *module: str, stderr: int | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *module],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
            pass_fds=(self._lock.fd,),
            start_new_session=True,
            preexec_fn=die_with_parent(),
            check=False,
        )

    def _redis(self, redis: EmbeddedRedis) -> ChildSpec:
        return ChildSpec(
            name="nbl-redis",
            argv=redis.argv,
            env=self._environment,
            stage=REDIS_STAGE,
            ready=redis.answers,
            ready_timeout=REDIS_LOAD_TIMEOUT_SECONDS,
            stop_grace=STOP_GRACE_SECONDS,
            pass_fds=(self._lock.fd,),
            hint=f"its log is {redis.log}",
        )

    def _api(self, listener: socket.socket) -> ChildSpec:
        descriptor = listener.fileno()
        host, port = listener.getsockname()[:2]
        given = os.environ.get("GLIBC_TUNABLES")
        return ChildSpec(
            name="nbl-api",
            argv=(*run_module("api"), "--fd", str(descriptor)),
            env=self._environment | {"GLIBC_TUNABLES": ":".join(filter(None, (*_MALLOC, given)))},
            stage=PYTHON_STAGE,
            executable=self._named_python("nbl-api"),
            # Not /api/health: that looks at the worker, which starts only after this, and would report it missing.
            ready=lambda: answers(host, port, "/api/health/live"),
            pass_fds=(self._lock.fd, descriptor),
            on_death=self._forget_metrics,
        )

    def _worker(self) -> ChildSpec:
        return ChildSpec(
            name="nbl-worker",
            argv=run_module("services.worker"),
            env=self._environment,
            stage=PYTHON_STAGE,
            executable=self._named_python("nbl-worker"),
            pass_fds=(self._lock.fd,),
            on_death=self._forget_metrics,
        )

    def _named_python(self, name: str) -> Path | None:
        """A link to Python, so that `ps` shows the name while the child still imports what sets its title."""
        if sys.platform != "linux":  # a framework build of macOS finds itself by its path
            return None
        link = self._folders.run / name
        link.unlink(missing_ok=True)
        link.symlink_to(sys.executable)
        return link

    def _forget_metrics(self, pid: int) -> None:
        # What prometheus_client's mark_process_dead does, without its import: live gauges end with their process.
        for path in self._folders.metrics.glob(f"gauge_live*_{pid}.db"):
            path.unlink(missing_ok=True)

    def _greet_worker(self) -> None:
        print("Nano Banana Lab's worker is started", flush=True)

    def _greet(self, listener: socket.socket) -> None:
        host, port = listener.getsockname()[:2]
        address = f"http://{reachable(host, port)}"
        lines = [f"Nano Banana Lab is ready: open {address}"]
        if self._settings.server.shows_docs:
            lines.append(f"  API reference  {address}/docs")
        lines.append(f"  Data           {self._folders.data}")
        if self._settings.providers.google_api_key is None:
            demo = "from the demo provider until GOOGLE_API_KEY is set"
            lines.append(
                f"  Images         {demo if self._settings.demo_enabled else 'none until GOOGLE_API_KEY is set'}"
            )
        setup_token = self._folders.data / SETUP_TOKEN_FILE
        if setup_token.exists():
            lines.append(f"  First admin    register with the set-up token {setup_token.read_text(encoding='ascii')}")
        lines.append("  Stop           Ctrl-C")
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
