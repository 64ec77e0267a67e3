"""docs/API.md is run from top to bottom, as a reader with a shell would, and has a call of every route."""

import asyncio
import json
import os
import re
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.conftest import OPERATOR_KEY, OpenService
from tests.references import pictures
from tests.support.github import GitHubStandin, Person, github_settings
from tests.support.service import RunningService
from tests.tasks.workers import working

GUIDE = Path(__file__).parents[2] / "docs/API.md"
EXAMPLE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CALLED = re.compile(r"^CALLED (\w+) (\S+) (\d+)$", re.MULTILINE)
SECONDS = 60

# The reader's shell: an error of curl or a refusal of the service ends it, and each call leaves a line. Variables and
# functions are handed on from example to example.
PRELUDE = """
set -euo pipefail
[ ! -e "$STATE_FILE" ] || . "$STATE_FILE"
set -a
curl() { command curl -sS --fail-with-body -w '%{stderr}CALLED %{method} %{url_effective} %{http_code}\\n' "$@"; }
"""
POSTLUDE = """
{ export -p | grep -v -e ' BASH' -e ' SHELLOPTS'; declare -f field; } >"$STATE_FILE"
"""


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    status: int


class Reader:
    """Runs one example after another in a folder with two pictures."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.calls: list[Call] = []
        self._given = {"PATH": os.environ["PATH"], "STATE_FILE": str(folder / "state"), **variables}
        (folder / "one.png").write_bytes(pictures.picture())
        (folder / "two.png").write_bytes(pictures.picture())

    async def run(self, example: str, **variables: str) -> None:
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", PRELUDE + example + POSTLUDE,
            cwd=self.folder, env=self._given | variables, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
        assert process.returncode == 0, f"{example}\n{out.decode(errors='replace')}\n{err.decode()}"
        for method, url, status in CALLED.findall(err.decode()):
            self.calls.append(Call(method, re.sub(r"^https?://[^/]+|\?.*$", "", url), int(status)))


@pytest.fixture
async def service(open_service: OpenService, gemini: GeminiStandin, github: GitHubStandin) -> RunningService:
    settings = {"GOOGLE_API_KEY": OPERATOR_KEY, "GOOGLE_GEMINI_BASE_URL": gemini.url}
    return await open_service(**settings, **github_settings(github))


def examples() -> list[str]:
    return EXAMPLE.findall(GUIDE.read_text(encoding="utf-8"))


def operation_of(document: dict[str, Any], call: Call) -> str:
    """`GET /api/history/{image_id}`; a path without placeholders goes before one with them."""
    for template in sorted(document["paths"], key=lambda path: path.count("{")):
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, call.path) and call.method.lower() in document["paths"][template]:
            return f"{call.method} {template}"
    raise AssertionError(f"the guide calls {call.method} {call.path}, which is no route")


async def test_every_route_has_an_example_that_works(
    service: RunningService, github: GitHubStandin, tmp_path: Path
) -> None:
    reader = Reader(
        tmp_path, NBL=service.url, GOOGLE_KEY="AIzaKeyOfTheReader00000000000000000000",
        CALLBACK_URL="https://93.184.216.34/hooks",  # nobody answers for names here
        SETUP_TOKEN=(service.data_dir / "setup_token").read_text(encoding="ascii"),
    )  # fmt: skip
    for example in examples():
        brought_back = {}
        if "$CODE" in example:  # what happens in the browser between the two calls
            redirect = json.loads((tmp_path / "github.json").read_text(encoding="utf-8"))["redirect_url"]
            code, state = github.approve(redirect, Person(583231, "ada"))
            brought_back = {"CODE": code, "STATE": state}
        # Tasks wait, to be stopped and begun anew, until somebody wants to see one through.
        async with working(service) if "/tasks/execute" in example else nullcontext():
            await reader.run(example, **brought_back)

    document = service.app.openapi()
    called: dict[str, set[int]] = {}
    for call in reader.calls:
        called.setdefault(operation_of(document, call), set()).add(call.status)
    routes = {f"{method.upper()} {path}" for path, found in document["paths"].items() for method in found}
    assert routes - set(called) == set(), "docs/API.md has no example of these"
    for route, statuses in called.items():
        method, path = route.split()
        documented = document["paths"][path][method.lower()]["responses"]
        assert statuses <= {int(status) for status in documented if status.startswith("2")}, route

    assert (tmp_path / "whole.img").read_bytes() == (tmp_path / "lighthouse.img").read_bytes()
    assert (tmp_path / "small.webp").read_bytes()[8:12] == b"WEBP"
    assert (tmp_path / "account.zip").read_bytes().startswith(b"PK")


def test_the_guide_is_read() -> None:
    """Against a pattern that finds nothing."""
    found = examples()
    assert len(found) > 10
    assert all("curl" in example or "NBL=" in example for example in found)
    blocks = re.findall(r"^```(\w*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(blocks) == {"sh", "json", "python", "js", ""}
