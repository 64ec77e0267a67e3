"""`python -m scripts.serve` as an operator runs it: the real tree of processes, over a folder of its own."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import psutil
from redis import Redis

from core.private_folder import private_folder
from scripts.serve import SHARED_MEMORY
from tests.support.databases import databases

ROOT = Path(__file__).parents[2]
START_SECONDS = 60


def eventually(holds: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Installation:
    """One folder with the service in it; it can be started again over the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self._output = folder / "output"
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def launch(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start it with nothing of the developer's own settings: neither the environment nor the project's .env."""
        kept = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "HOME", "COVERAGE"))}
        own = {"DATA_DIR": str(self.data), "PORT": str(self.port), "PYTHONPATH": str(ROOT)}
        with self._output.open("wb") as output:
            leader = subprocess.Popen(
                [sys.executable, "-m", "scripts.serve", *arguments],
                cwd=self.folder,
                env={**kept, **own, **databases.settings(self.data), **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._started.append(leader)
        return leader

    def migrate(self, **settings: str) -> None:
        """What an operator does before the first start over a database that is not embedded."""
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings}
        command = [sys.executable, "-m", "migrations", "upgrade"]
        subprocess.run(command, cwd=self.folder, env=environment, check=True, timeout=START_SECONDS)

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        leader = self.launch(*arguments, **settings)
        started = "worker is started" if "worker" in arguments else "is ready"
        ready = eventually(lambda: started in self.output() or leader.poll() is not None, START_SECONDS)
        assert ready, self.output()
        assert leader.poll() is None, self.output()
        # It starts last, when the leader has said already that the service is ready.
        if "api" not in arguments:
            assert eventually(lambda: bool(named(leader, "nbl-worker"))), self.output()
        return leader

    def refused(self, *arguments: str, **settings: str) -> tuple[int, list[str]]:
        """Exit code and output of a start that must fail by itself."""
        leader = self.launch(*arguments, **settings)
        return leader.wait(START_SECONDS), self.output().splitlines()

    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def health(self) -> int:
        return httpx.get(f"{self.url}/api/health", timeout=15).status_code

    def redis(self) -> Redis:
        return Redis.from_url(f"unix://{self.data}/run/redis.sock")

    def clean_up(self) -> None:
        for leader in self._started:
            children = tree_of(leader) if leader.poll() is None else []
            leader.kill()
            leader.wait()
            psutil.wait_procs(children, timeout=5)
            for process in children:
                if alive(process):
                    process.kill()
        # A leader that is killed leaves its metrics in shared memory for the next one on its folder, which never comes.
        with contextlib.suppress(OSError):
            shutil.rmtree(private_folder(SHARED_MEMORY, self.data / "run"))


def tree_of(leader: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return list(psutil.Process(leader.pid).children(recursive=True))


def named(leader: subprocess.Popen[bytes], name: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(leader.pid).children():
        try:
            if process.name() == name and alive(process):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
