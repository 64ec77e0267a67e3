"""The two servers that are compared, started afresh for each round: ours as an operator would, and the floor."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from jose import jwt
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import floor
from benchmarks.measure import ProcessTree

TargetName = Literal["ours", "floor"]
API_ROLE = "nbl-api"

ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_UNLIMITED = "1000000"
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
_OUR_SETTINGS = {
    "GOOGLE_API_KEY": "benchmark-key",
    "TRIAL_GLOBAL_QUOTA": _UNLIMITED,
    "TRIAL_COOLDOWN_SECONDS": "0",
    "TRIAL_GUEST_SHARE": "1",
    "TRIAL_BASIC_1K_LIMIT": _UNLIMITED,
    "TRIAL_BASIC_4K_LIMIT": _UNLIMITED,
    "GUEST_RATE_PER_HOUR": _UNLIMITED,
    "RATE_LIMIT_REQUESTS": _UNLIMITED,
    "LOG_LEVEL": "WARNING",
}
# The same key each time: to another installation the bucket would belong to somebody else.
_OUR_BUCKET = {
    "SECRET_KEY": "a-key-for-benchmarks-0123456789abcdef",
    "R2_ENABLED": "true",
    "R2_BUCKET_NAME": "ours",
    "R2_ACCESS_KEY_ID": "benchmark",
    "R2_SECRET_ACCESS_KEY": "benchmark",
}
# Of one of our access tokens (SPEC 4), for a run in which ours isn't there to give one.
_SAMPLE_CLAIMS = {
    "iss": "nano-banana-lab",
    "aud": "nano-banana-lab",
    "sub": "usr_0123456789abcdef0123456789abcdef",
    "sid": "ses_0123456789abcdef0123456789abcdef",
    "role": "guest",
    "jti": "0123456789abcdef0123456789abcdef",
    "typ": "access",
}
_TOKEN_SECONDS = 900


class Target:
    """A server under test and what the drivers need of it: paths, a token, its processes.

    What it writes stays below the folder that it is given until the whole run is over.
    """

    name: TargetName
    generate_path: str
    health_path: str

    def __init__(self, command: list[str], environment: dict[str, str], port: int, workers: int) -> None:
        self.workers = workers
        self.url = f"http://127.0.0.1:{port}"
        self.token = ""
        # Its own session, so that whatever it leaves behind when it doesn't stop can be ended by the group.
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=kept_environment() | environment, stdout=subprocess.DEVNULL, start_new_session=True
        )

    @property
    def processes(self) -> ProcessTree:
        raise NotImplementedError

    def sign_in(self) -> None:
        """Gets `token`. Tokens live for minutes, so each measurement asks for its own."""
        raise NotImplementedError

    def step_seconds(self) -> dict[str, tuple[float, float]]:
        """Sum of seconds and count of runs by step of a generation, since the start; empty if it has no steps."""
        return {}

    def __enter__(self) -> Self:
        end = time.monotonic() + _START_SECONDS
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > end:
                self._stop()
                raise RuntimeError(f"{self.name} did not start (exit code {self._process.returncode})")
            time.sleep(0.05)
        if API_ROLE not in self.processes.roles().values():
            self._stop()
            raise RuntimeError(f"{self.name} answers, but no process of it is named {API_ROLE}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + self.health_path, timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with suppress(ProcessLookupError):  # the usual case: nothing of its group is left
            os.killpg(self._process.pid, signal.SIGKILL)


class Ours(Target):
    """The product, by its own command: leader, API processes, worker, embedded Redis, SQLite, a folder or a bucket."""

    name = "ours"
    generate_path = "/api/generate/basic"
    health_path = "/api/health"

    def __init__(self, folder: Path, upstream: str, workers: int, s3: str, extra: dict[str, str]) -> None:
        port = free_port()
        environment = {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "DATA_DIR": tempfile.mkdtemp(prefix="ours-", dir=folder),
            "GOOGLE_GEMINI_BASE_URL": upstream,
            "WEB_CONCURRENCY": str(workers),
        }
        if s3:
            environment |= _OUR_BUCKET | {"R2_ENDPOINT_URL": s3}
        command = [sys.executable, "-m", "scripts.serve"]
        super().__init__(command, _OUR_SETTINGS | environment | extra, port, workers)

    @property
    def processes(self) -> ProcessTree:
        return ProcessTree(self._process.pid)

    def sign_in(self) -> None:
        request = urllib.request.Request(
            f"{self.url}/api/auth/guest", b"{}", {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            self.token = json.load(response)["access_token"]

    def step_seconds(self) -> dict[str, tuple[float, float]]:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as response:
            text = response.read().decode()
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "generation_step_seconds_sum":
                    sums[sample.labels["step"]] = sums.get(sample.labels["step"], 0.0) + sample.value
                elif sample.name == "generation_step_seconds_count":
                    counts[sample.labels["step"]] = counts.get(sample.labels["step"], 0.0) + sample.value
        return {step: (seconds, counts[step]) for step, seconds in sums.items()}


class Floor(Target):
    """The floor, with a token of its own that says what ours says."""

    name = "floor"
    generate_path = "/floor/generate"
    health_path = "/floor/health"

    def __init__(self, folder: Path, upstream: str, workers: int, decoder: str, s3: str) -> None:
        port, images = free_port(), tempfile.mkdtemp(prefix="floor-", dir=folder)
        given = {"--port": port, "--upstream": upstream, "--folder": images, "--workers": workers, "--decoder": decoder}
        given |= {"--s3": s3} if s3 else {}
        arguments = [str(word) for pair in given.items() for word in pair]
        super().__init__([sys.executable, "-m", "benchmarks.floor", *arguments], {}, port, workers)

    @property
    def processes(self) -> ProcessTree:
        return ProcessTree(self._process.pid, only_role=API_ROLE)

    def sign_in(self) -> None:
        self.sign_like(None)

    def sign_like(self, token: str | None) -> None:
        """A token with the claims of one of ours, or of a sample."""
        now = int(time.time())
        sample = _SAMPLE_CLAIMS | {"iat": now, "exp": now + _TOKEN_SECONDS}
        claims: dict[str, Any] = jwt.get_unverified_claims(token) if token else sample
        self.token = floor.sign(claims)


def kept_environment() -> dict[str, str]:
    """What a server under test has of ours; none of it are settings."""
    return {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
