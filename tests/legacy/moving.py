"""What the tests of a move share: the command, a move without a process, and what is here afterwards."""

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from services.accounts.models import github_folder_id
from services.history.models import Image
from services.history.store import image_of, images
from services.legacy.assembly import MoveOrder, open_importer
from services.legacy.report import ODDITIES, Report
from tests.legacy.old_app import IN_LIST, IN_METADATA, SHANGHAI, OldImage, milliseconds
from tests.support.databases import databases
from tests.support.installation import ROOT
from tests.support.parts import Parts

COMMAND_SECONDS = 240


async def move_in(environment: Mapping[str, str], *arguments: str) -> tuple[int, list[str], list[str]]:
    """`scripts/migrate_data.py` as an operator runs it: exit code, and the lines of both of its streams."""
    process = begun(environment, *arguments)
    told, logged = await asyncio.to_thread(process.communicate, timeout=COMMAND_SECONDS)
    return process.returncode, told.splitlines(), logged.splitlines()


def begun(environment: Mapping[str, str], *arguments: str) -> "subprocess.Popen[str]":
    kept = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "HOME", "COVERAGE"))}
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.migrate_data", "--timezone", SHANGHAI, *arguments],
        cwd=environment["DATA_DIR"], env={**kept, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


async def moved(
    parts: Parts,
    source: Path | str,
    *,
    dry_run: bool = False,
    shared_to: str | None = None,
    zone: str = SHANGHAI,
) -> dict[str, Any]:
    """The report, as JSON."""
    order = MoveOrder(str(source), ZoneInfo(zone), shared_to)
    with parts.container.spool.open_unnamed() as oddities:
        report = Report(oddities, lambda _: None)
        async with open_importer(parts.container, order) as importer:
            await importer.run(report, dry_run=dry_run)
        content: dict[str, Any] = orjson.loads(b"".join(report.json_pieces()))
    return content


def put_in(folder: Path, key: str, data: bytes) -> None:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def indexed(data_dir: Path) -> dict[str, Image]:
    """All rows, by their key."""
    rows = databases.run(data_dir, lambda connection: list(connection.execute(images.select())))
    return {row.key: image_of(row) for row in rows}


def owners(data_dir: Path) -> dict[str, str]:
    """Folders by the id of their account."""
    return {row[0]: row[1] for row in databases.ask(data_dir, "SELECT id, folder_id FROM users")}


def moves_as(old: OldImage, *, listed: bool) -> dict[str, Any]:
    """What the index is to have of an image."""
    cut = IN_LIST if listed else IN_METADATA
    return {
        "prompt": old.prompt[:cut], "mode": old.mode, "aspect_ratio": old.aspect_ratio, "resolution": old.resolution,
        "duration": old.duration, "created_at": milliseconds(old.made_at), "session_id": old.session_id,
        "chat_index": old.chat_index, "text_response": old.text_response if listed else None,
        "thinking": old.thinking if listed else None, "width": 24, "height": 16, "size": len(old.data),
        "mime_type": "image/png", "listed": True, "deleted_at": None, "call_id": "",
    }  # fmt: skip


def fields_of(image: Image, like: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(image, name) for name in like}


def without_owner(image: Image) -> Image:
    return replace(image, user_id="")


def newest(image: Image) -> tuple[int, str]:
    return image.created_at, image.id


def is_an_oddity(line: str) -> bool:
    return any(line.startswith(f"{text}: ") for text in ODDITIES.values())


def milliseconds_of(moment: str) -> int:
    return milliseconds(datetime.fromisoformat(moment))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def folder_of(github_id: int) -> str:
    return github_folder_id(github_id)
