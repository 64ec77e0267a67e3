"""The OpenAPI document is good for a TypeScript client: generated from the running service, strict, and it works."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import RunningService
from tests.typescript.toolchain import COMPILER, GENERATOR, SOURCES, install, node

REPORTED = re.compile(r"^(\S+\.ts)\((\d+),\d+\): error (TS\d+): ", re.MULTILINE)
EXPECTED = re.compile(r"// (TS\d+)$")


@pytest.fixture(scope="session")
def node_modules() -> Path:
    return install()


@pytest.fixture
async def project(service: RunningService, node_modules: Path, tmp_path: Path) -> Path:
    """A folder with a client in `generated`, made from the service's own /openapi.json."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "node_modules").symlink_to(node_modules)
    for name in ("package.json", "openapi-ts.config.js", "tsconfig.json"):
        shutil.copy(SOURCES / name, folder)
    generated = await node([GENERATOR, "--input", f"{service.url}/openapi.json"], folder)
    assert generated.returncode == 0, generated.stdout + generated.stderr
    # Where it tells of what it did not understand or had to rename.
    assert generated.stderr == ""
    return folder


async def compiled(project: Path, source: str) -> subprocess.CompletedProcess[Any]:
    """What the compiler says of the generated client and one program that uses it."""
    shutil.copy(SOURCES / source, project)
    return await node([COMPILER, "--pretty", "false"], project)


async def test_a_generated_client_compiles_strictly_and_makes_an_image(service: RunningService, project: Path) -> None:
    result = await compiled(project, "client.ts")
    assert result.returncode == 0, result.stdout
    ran = await node(["built/client.js", service.url], project)
    assert ran.returncode == 0, ran.stderr
    printed = json.loads(ran.stdout)
    image, [entry] = printed["image"], printed["history"]["items"]
    assert printed["user"]["role"] == "guest"
    assert image["provider"] == "demo"
    assert image["width"] == image["height"] > 0
    assert entry["id"] == image["history_id"]
    assert entry["settings"] == {"aspect_ratio": "1:1", "resolution": "1K"}
    assert printed["history"]["total"] == 1
    [stored] = service.stored("users/**/*.png")
    assert printed["bytes"] == entry["size"] == stored.stat().st_size
    assert printed["refusal"] == {"status": 401, "code": "UNAUTHORIZED"}


async def test_what_the_document_rules_out_does_not_compile(project: Path) -> None:
    lines = (SOURCES / "misuse.ts").read_text(encoding="utf-8").splitlines()
    expected = [
        ("misuse.ts", str(number), match[1])
        for number, line in enumerate(lines, start=1)
        if (match := EXPECTED.search(line))
    ]
    assert len(expected) > 10
    result = await compiled(project, "misuse.ts")
    assert REPORTED.findall(result.stdout) == expected, result.stdout
