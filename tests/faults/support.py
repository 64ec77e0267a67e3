"""What the fault tests share: an installation's books, API processes that are to die, a Redis that can be hurt."""

import asyncio
import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
from redis import Redis

from api.__main__ import main as serve_api
from benchmarks.gemini_standin import GeminiStandin
from core.clients.embedded_redis import prepare_embedded_redis
from core.settings import embedded_database
from core.supervisor import die_with_parent
from services.quota.store import RESERVATIONS
from tests.conftest import OPERATOR_KEY
from tests.support.installation import Installation, alive, tree_of
from tests.support.service import Guest
from tests.support.waiting import eventually

OWN_KEY = "AIzaKeyOfOneCallerAlone000000000000000000"
HTTP_SECONDS = 60
RESERVATION_SECONDS = 3  # how long a dead call holds its points, by the settings below
# Each of the many API processes that a test lets die would otherwise import for more than a second.
_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(["api.__main__"])
SETTLED_SECONDS = RESERVATION_SECONDS + 30  # the sweep comes every 5 s, from a worker that may have to start first
LEASE_SECONDS = 40  # a dead call's Idempotency-Key is another's after 15 s


def fault_settings(gemini: GeminiStandin) -> dict[str, str]:
    """Reservations that expire soon, and no limit that would end a test early."""
    return {
        "GOOGLE_API_KEY": OPERATOR_KEY, "GOOGLE_GEMINI_BASE_URL": gemini.url,
        "REQUEST_TIMEOUT_SECONDS": "2", "RESERVATION_GRACE_SECONDS": "1",
        "TRIAL_COOLDOWN_SECONDS": "0", "TRIAL_GUEST_SHARE": "1", "TRIAL_GLOBAL_QUOTA": "100000",
        "TRIAL_BASIC_1K_LIMIT": "100000", "RATE_LIMIT_REQUESTS": "100000", "GUEST_RATE_PER_HOUR": "100000",
        "WEB_CONCURRENCY": "1",
    }  # fmt: skip


@dataclass(frozen=True)
class Books:
    """What an installation has of each prompt: charges, rows in the index; and objects without their other half."""

    charged: Counter[str]
    listed: Counter[str]
    points: int
    half_objects: tuple[str, ...]
    unknown_objects: tuple[str, ...]
    missing_objects: tuple[str, ...]


def read_books(data: Path) -> Books:
    with closing(sqlite3.connect(embedded_database(data))) as database:
        rows = database.execute("SELECT key, prompt, size FROM images WHERE listed AND deleted_at IS NULL").fetchall()
        charges = database.execute(
            "SELECT images.prompt, points FROM charges LEFT JOIN images ON images.id = image_id"
        ).fetchall()
    storage = data / "storage"
    files = {path.relative_to(storage).as_posix(): path for path in storage.glob("users/**/*") if path.is_file()}
    stems = Counter(key.rpartition(".")[0] for key in files)
    images = {key: path.stat().st_size for key, path in files.items() if not key.endswith(".json")}
    indexed = {key: size for key, _, size in rows}
    return Books(
        charged=Counter(prompt for prompt, _ in charges),
        listed=Counter(prompt for _, prompt, _ in rows),
        points=sum(points for _, points in charges),
        half_objects=tuple(stem for stem, count in stems.items() if count != 2),
        unknown_objects=tuple(images.keys() - indexed.keys()),
        missing_objects=tuple(key for key, size in indexed.items() if images.get(key) != size),
    )


async def until_nothing_is_held(redis_url: str) -> None:
    """Until every reservation has ended: by its call, or by its expiry and the sweep."""

    async def settled() -> bool:
        return held_reservations(redis_url) == 0

    assert await eventually(settled, SETTLED_SECONDS), "reservations are left that nobody sweeps"


def held_reservations(redis_url: str) -> int:
    with Redis.from_url(redis_url) as redis:
        held = redis.zcard(RESERVATIONS())
    assert isinstance(held, int)
    return held


async def balanced_books(service: Installation, redis_url: str) -> Books:
    """The books once nothing is held any more, after the checks that hold whatever happened."""
    await until_nothing_is_held(redis_url)
    books = read_books(service.data)
    assert books.half_objects == (), "an object without its record, or a record without its object"
    assert books.unknown_objects == (), "an object that no row knows"
    assert books.missing_objects == (), "a row whose object is gone or cut"
    async with plain_client(service.url) as client:
        guest = await sign_in(client)
        assert await guest.used() == books.points, "/api/quota and the ledger differ"
        await guest.client.aclose()
    return books


def embedded_redis_url(service: Installation) -> str:
    return f"unix://{service.data}/run/redis.sock"


def plain_client(url: str, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    """Without TLS, whose context takes 60 ms to make."""
    return httpx.AsyncClient(base_url=url, timeout=HTTP_SECONDS, headers=headers, verify=False)


async def sign_in(client: httpx.AsyncClient) -> Guest:
    """A new guest with a client of their own; whoever asks closes it."""
    response = await client.post("/api/auth/guest", json={})
    assert response.status_code == 200, response.text
    tokens = response.json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    own = plain_client(str(client.base_url), headers)
    return Guest(tokens["user"]["id"], own, tokens)


def calls_upstream(gemini: GeminiStandin) -> Counter[str]:
    """How often the provider was asked for each prompt."""
    return Counter(_prompt(request["body"]) for request in gemini.requests())


def _prompt(body: Any) -> str:
    return str(body["contents"][0]["parts"][0]["text"])


async def send(guest: Guest, prompt: str, headers: dict[str, str], *, base_url: str = "") -> httpx.Response | None:
    """One generation; None when the connection broke, as it does when the process dies."""
    url = f"{base_url}/api/generate/basic"
    try:
        return await guest.client.post(url, json={"prompt": prompt, "aspect_ratio": "1:1"}, headers=headers)
    except (httpx.RemoteProtocolError, httpx.ReadError):
        return None


async def send_until_answered(guest: Guest, prompt: str, headers: dict[str, str]) -> httpx.Response:
    """As a client does that keeps its key: again after a broken connection, and while the dead call holds the key."""
    answers = list[httpx.Response | None]()

    async def answered() -> bool:
        response = await send(guest, prompt, headers)
        answers.append(response)
        if response is None or response.status_code == 409:
            await asyncio.sleep(0.3)
            return False
        return True

    assert await eventually(answered, LEASE_SECONDS), f"{prompt}: {[answer and answer.text for answer in answers[-1:]]}"
    last = answers[-1]
    assert last is not None
    return last


async def guests(installation: Installation, count: int, clients: AsyncExitStack) -> list[Guest]:
    client = await clients.enter_async_context(plain_client(installation.url))
    found = await asyncio.gather(*(sign_in(client) for _ in range(count)))
    for guest in found:
        clients.push_async_callback(guest.client.aclose)
    return list(found)


async def send_through_it_all(guest: Guest, prompt: str) -> httpx.Response:
    """The same for one that also finds nobody who listens for a while."""
    while True:
        try:
            return await send_until_answered(guest, prompt, {"Idempotency-Key": prompt.replace(" ", "-")})
        except httpx.ConnectError:
            await asyncio.sleep(0.2)


def kill_tree(leader: subprocess.Popen[bytes]) -> None:
    """kill -9 of all of it at once, as a machine that loses its power."""
    os.kill(leader.pid, signal.SIGSTOP)  # so that it starts nothing again
    processes = tree_of(leader)
    for process in processes:
        process.kill()
    leader.kill()
    leader.wait()
    assert not any(alive(process) for process in processes) or _gone(processes)


def _gone(processes: list[Any]) -> bool:
    deadline = time.monotonic() + 5
    while any(alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class SpareApi:
    """One more API process over an installation's data, which nobody starts again when it dies."""

    def __init__(self, service: Installation, settings: dict[str, str]) -> None:
        kept = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "HOME"))}
        own = {"DATA_DIR": str(service.data), "REDIS_URL": embedded_redis_url(service)}
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(16)  # requests wait here until the process is there
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            self._process = _FORKING.Process(
                target=_serve_api, args=(listener, {**kept, **own, **settings}, service.folder), daemon=True
            )
            self._process.start()

    async def exit_code(self) -> int | None:
        """Once it has ended; None when it has not within 5 s."""
        await asyncio.to_thread(self._process.join, 5)
        return self._process.exitcode

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()


def _serve_api(listener: socket.socket, environment: dict[str, str], folder: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    sys.argv = ["api", "--fd", str(listener.detach())]
    sys.exit(serve_api())


class OwnRedis:
    """A server of the test's own, to be killed, stopped, and started again with its data or without."""

    def __init__(self, folder: Path) -> None:
        self._server = prepare_embedded_redis(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = self._server.url

    def start(self) -> None:
        """Returns once it answers."""
        self._process = subprocess.Popen(
            self._server.argv, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent()
        )
        deadline = time.monotonic() + 10
        while not self._server.answers_now():
            assert time.monotonic() < deadline, "Redis does not start"
            time.sleep(0.005)

    def kill(self) -> None:
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def pause(self) -> None:
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def lose_everything(self) -> None:
        """Only while it does not run."""
        assert self._process is None
        for entry in self._server.folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def close(self) -> None:
        if self._process is not None:
            self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process


def metric(text: str, name: str) -> float:
    """The sum of one metric's samples in a Prometheus text."""
    return sum(_samples(text, name))


def _samples(text: str, name: str) -> Iterator[float]:
    for line in text.splitlines():
        if line.startswith((f"{name} ", f"{name}{{")):
            yield float(line.rpartition(" ")[2])


def error_code(response: httpx.Response) -> str:
    return str(orjson.loads(response.content)["error"]["code"])
