"""What Gemini's failures leave in the log of the real process, at its most talkative: neither keys nor bodies."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.gemini_standin import GeminiStandin
from benchmarks.standin_behaviour import StepFields
from tests.providers.upstream import override_catalog
from tests.support.databases import databases

ROOT = Path(__file__).parents[2]
OPERATOR = "operator.key+of/no=known~form-0123456789"
OWN = "own-key.of_a-caller+0123456789"
WORDS = "words of the upstream "
STEPS: list[StepFields] = [
    *(StepFields(mode="error", status=code, message="{key} " + WORDS * 40) for code in (400, 403, 429, 500, 503)),
    {"mode": "reset"},
    {"mode": "half", "image_bytes": 900_000},
    {"mode": "html"},
    {"mode": "huge"},
    {"mode": "truncated_base64"},
    {"mode": "broken_json"},
    {"mode": "not_image"},
    {"mode": "no_image", "text": WORDS * 40},
    {"mode": "safety"},
]


def test_no_failure_writes_a_key_or_an_upstream_body_into_the_log(
    gemini: GeminiStandin, redis_url: str, empty_database: Path, tmp_path: Path
) -> None:
    override_catalog(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "DATA_DIR": str(tmp_path / "data"), "REDIS_URL": redis_url, "PORT": str(port), "TRIAL_COOLDOWN_SECONDS": "0",
        "GOOGLE_API_KEY": OPERATOR, "GOOGLE_GEMINI_BASE_URL": gemini.url, "LOG_LEVEL": "DEBUG", "DEBUG": "true",
    }  # fmt: skip
    settings |= databases.laid_out(tmp_path / "data", empty_database)
    log = tmp_path / "log"
    with api_process(settings, log), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        wait_until_live(client, log)
        token = client.post("/api/auth/guest", json={}).json()["access_token"]
        for step in STEPS:
            gemini.script(step)
            for headers in ({"Authorization": f"Bearer {token}"}, {"X-API-Key": OWN}):
                assert client.post("/api/generate/basic", json={"prompt": "a"}, headers=headers).is_error
    written = log.read_text(encoding="utf-8")
    assert "PROVIDER_OVERLOADED" in written
    for secret in (OPERATOR, OWN, token, WORDS * 20, "Sign in to this network", "this is not an image"):
        assert secret not in written


@contextmanager
def api_process(settings: dict[str, str], log: Path) -> Iterator[None]:
    kept = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "HOME", "COVERAGE"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "api"], cwd=ROOT, env=kept | settings, stdout=output, stderr=output
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def wait_until_live(client: httpx.Client, log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if client.get("/api/health/live").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(log.read_text(encoding="utf-8"))
