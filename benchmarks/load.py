"""A load generator. Closed loop: so many callers, each sends its next request when the last one is answered. Open loop:
requests at a steady rate, whatever becomes of those before.

`python -m benchmarks.load FILE` reads a `Plan` as JSON from FILE and writes a `Result` there in its place; it runs in a
process of its own so that its work is never counted as the server's.
"""

import asyncio
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop

_ROOT = Path(__file__).resolve().parent.parent
_REQUEST_TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send. It ends after `requests` (0: no such bound) or `seconds`, whichever comes first.

    `interval_seconds` is each caller's pause between an answer and its next request. `{n}` in the body's prompt
    becomes the number of the request.

    With `per_second` the loop is open for `seconds`: each of `tokens` is somebody on a connection of their own, whose
    turn comes round, and latencies count from the moment that a request is due.
    """

    url: str
    method: str = "GET"
    token: str = ""
    body: dict[str, Any] | None = None
    concurrency: int = 1
    requests: int = 0
    seconds: float = 120.0
    interval_seconds: float = 0.0
    per_second: float = 0.0
    tokens: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Result:
    """`latencies` of the good answers in seconds, in order of arrival; `errors` by status or exception with a count;
    `elapsed` seconds from the first request to the last answer."""

    latencies: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    elapsed: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.elapsed

    def percentile(self, percent: float) -> float:
        """Nearest rank, in seconds. Raises ValueError without a good answer."""
        if not self.latencies:
            raise ValueError(f"no request succeeded: {self.errors}")
        ordered = sorted(self.latencies)
        return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


class Run:
    def __init__(self, plan: Plan, sessions: list[aiohttp.ClientSession]) -> None:
        self._plan = plan
        self._sessions = sessions
        self._issued = 0
        self._end = time.perf_counter() + plan.seconds
        self.result = Result()

    async def caller(self) -> None:
        """One caller's loop."""
        while time.perf_counter() < self._end and (not self._plan.requests or self._issued < self._plan.requests):
            self._issued += 1
            await self._request(self._issued, time.perf_counter())
            if self._plan.interval_seconds:
                await asyncio.sleep(self._plan.interval_seconds)

    async def steadily(self) -> None:
        """All requests of an open loop."""
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(int(self._plan.per_second * self._plan.seconds)):
                due = begun + number / self._plan.per_second
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(self._request(number, due))

    async def _request(self, number: int, start: float) -> None:
        body = None
        if self._plan.body is not None:
            body = {
                name: value.replace("{n}", str(number)) if isinstance(value, str) else value
                for name, value in self._plan.body.items()
            }
        session = self._sessions[number % len(self._sessions)]
        try:
            async with session.request(self._plan.method, self._plan.url, json=body) as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError) as failed:
            self._count(type(failed).__name__)
            return
        if response.ok:
            self.result.latencies.append(time.perf_counter() - start)
        else:
            self._count(str(response.status))

    def _count(self, error: str) -> None:
        self.result.errors[error] = self.result.errors.get(error, 0) + 1


async def execute(plan: Plan) -> Result:
    """Runs the plan in this process."""
    async with AsyncExitStack() as stack:
        tokens = plan.tokens if plan.per_second else [plan.token]
        run = Run(plan, [await stack.enter_async_context(_session(token, plan.concurrency)) for token in tokens])
        start = time.perf_counter()
        if plan.per_second:
            await run.steadily()
        else:
            await asyncio.gather(*(run.caller() for _ in range(plan.concurrency)))
        run.result.elapsed = time.perf_counter() - start
    return run.result


def _session(token: str, connections: int) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_SECONDS)
    return aiohttp.ClientSession(headers=headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=connections))


class LoadProcess:
    """The generator as a subprocess: started at once, `result` waits for its end."""

    def __init__(self, plan: Plan) -> None:
        descriptor, name = tempfile.mkstemp(prefix="benchmark-load-", suffix=".json")
        os.close(descriptor)
        self._file = Path(name)
        self._file.write_bytes(orjson.dumps(asdict(plan)))
        self._process = subprocess.Popen([sys.executable, "-m", "benchmarks.load", name], cwd=_ROOT)

    def result(self) -> Result:
        code = self._process.wait()
        # A file, because thousands of latencies are more than a pipe holds.
        written = self._file.read_bytes()
        self._file.unlink()
        if code != 0:
            raise RuntimeError(f"the load generator failed with {code}")
        return Result(**orjson.loads(written))


def load(plan: Plan) -> Result:
    """Runs the plan in a process of its own and waits for it."""
    return LoadProcess(plan).result()


def main() -> None:
    file = Path(sys.argv[1])
    given: dict[str, Any] = orjson.loads(file.read_bytes())
    file.write_bytes(orjson.dumps(asdict(uvloop.run(execute(Plan(**given))))))


if __name__ == "__main__":
    main()
