"""A stand-in for the Gemini API: real HTTP, in a process of its own, with whatever misbehaviour a test asks for.

By hand: `python -m benchmarks.gemini_standin --port 9000`. In a test:

    with GeminiStandin() as upstream:
        upstream.script({"mode": "error", "status": 503, "times": 2}, {"image_bytes": 1_760_000})
        ...  # point GOOGLE_GEMINI_BASE_URL at upstream.url
        assert len(upstream.requests()) == 3
"""

import argparse
import asyncio
import http.client
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack, cast

import orjson
import uvloop

from benchmarks.standin_behaviour import StepFields
from benchmarks.standin_http import Connection
from benchmarks.standin_server import Standin

_ROOT = Path(__file__).resolve().parent.parent
_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.01


class RecordedRequest(TypedDict):
    """A call as it came in: header names in lower case, `body` the parsed JSON or None, `time` seconds since 1970."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Any
    time: float


class Stats(TypedDict):
    """Calls in `total` and `answered`; `waiting` now and at most; `dropped` by their client; open `connections`."""

    total: int
    answered: int
    waiting: int
    peak_waiting: int
    dropped: int
    connections: int


class GeminiStandin:
    """Starts the stand-in as a subprocess and steers it. Control calls take a millisecond, so they may be made
    from async tests too; what takes longer (`until`) is a coroutine."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.gemini_standin", "--port", "0", "--until-stdin-ends"]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the stand-in ended with {self._process.wait()}")
        self._port = int(line)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """What to set as the API's base URL."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the stand-in isn't running")
        return self._process.pid

    def configure(self, **step: Unpack[StepFields]) -> None:
        """Answers every image call like this from now on; fields not named take their defaults."""
        self.script(step)

    def script(self, *steps: StepFields) -> None:
        """Answers image calls by these steps in turn, each for its `times`; the last one stays."""
        self._control({"image": steps})

    def configure_text(self, **step: Unpack[StepFields]) -> None:
        """Answers every call of a text model (moderation, prompt tools) like this from now on."""
        self.script_text(step)

    def script_text(self, *steps: StepFields) -> None:
        self._control({"text": steps})

    def refuse_keys(self, keys: Iterable[str]) -> None:
        """These keys, and no others, are not valid; `bad-key` is the one refused from the start."""
        self._control({"bad_keys": list(keys)})

    def requests(self) -> list[RecordedRequest]:
        """Calls of the API since the last `clear_requests`, oldest first, at most the latest 5,000.

        Those of text models stand apart, so that a test of images need not know of the moderation.
        """
        return cast(list[RecordedRequest], self._call("GET", "/_requests"))

    def text_requests(self) -> list[RecordedRequest]:
        """And the calls that asked a text model for something."""
        return cast(list[RecordedRequest], self._call("GET", "/_text_requests"))

    def stats(self) -> Stats:
        """Of the same calls as `requests`."""
        return cast(Stats, self._call("GET", "/_stats"))

    def text_stats(self) -> Stats:
        return cast(Stats, self._call("GET", "/_text_stats"))

    def clear_requests(self) -> None:
        """Forgets recorded requests and sets the counters back."""
        self._call("DELETE", "/_requests")

    def reset(self) -> None:
        """Back to how it started, but for pictures already made and calls still waiting."""
        self._control({"image": [{}], "text": [{}], "bad_keys": ["bad-key"]})
        self.clear_requests()

    async def until(self, holds: Callable[[Stats], bool], seconds: float = _TIMEOUT_SECONDS) -> Stats:
        """Waits until the counters satisfy `holds`. Raises TimeoutError with the last counters."""
        end = time.monotonic() + seconds
        while not holds(stats := self.stats()):
            if time.monotonic() > end:
                raise TimeoutError(f"the stand-in's counters stayed at {stats}")
            await asyncio.sleep(_POLL_SECONDS)
        return stats

    def _control(self, parts: dict[str, Any]) -> None:
        self._call("POST", "/_control", orjson.dumps(parts))

    def _call(self, method: str, path: str, body: bytes | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = orjson.loads(response.read())
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise ValueError(answer.get("error", "refused"))
        return answer


async def serve(port: int, ready_file: Path | None, until_stdin_ends: bool) -> None:
    """Serves on loopback; the port goes to the first line of stdout and to `ready_file`."""
    standin = Standin()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(standin.serve, standin.connected), "127.0.0.1", port, backlog=1024
    )
    bound = server.sockets[0].getsockname()[1]
    print(bound, flush=True)
    if ready_file is not None:
        await asyncio.to_thread(ready_file.write_text, f"{bound}\n")
    ended = asyncio.Event()
    if until_stdin_ends:
        loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9000, help="0 picks a free one")
    parser.add_argument("--ready-file", type=Path, help="gets the port once the server listens")
    parser.add_argument("--until-stdin-ends", action="store_true", help="end with the process that started it")
    arguments = parser.parse_args()
    try:
        uvloop.run(serve(arguments.port, arguments.ready_file, arguments.until_stdin_ends))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
