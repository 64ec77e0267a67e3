"""API processes and workers replaced one by one under load, also by a version with a newer schema: no request fails but
those that a proxy may send again, and the books balance.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.conftest import OPERATOR_KEY
from tests.faults.replicas import Proxy, Replica, Traffic
from tests.faults.task_load import assert_books_balance, until_all_are_closed
from tests.support.databases import databases
from tests.support.installation import ROOT, free_port
from tests.support.service import RunningService
from tests.tasks.conftest import NO_LIMITS

APIS, WORKERS = 2, 2
NEXT_REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "9000"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("next_things", sa.Column("id", sa.String, primary_key=True))
    for table in ("tasks", "images", "charges", "quota_holds", "users"):
        op.add_column(table, sa.Column("next_word", sa.String))
    op.add_column("tasks", sa.Column("next_number", sa.Integer, nullable=False, server_default="0"))
    op.create_index("ix_tasks_next_word", "tasks", ["next_word"])
"""


@pytest.fixture
def settings(gemini: GeminiStandin, redis_url: str) -> dict[str, str]:
    gemini.configure(pixels=(64, 64), delay_seconds=0.3)
    return {
        "GOOGLE_API_KEY": OPERATOR_KEY, "GOOGLE_GEMINI_BASE_URL": gemini.url, "REDIS_URL": redis_url, **NO_LIMITS,
    }  # fmt: skip


@pytest.fixture
async def replicas(service: RunningService, settings: dict[str, str]) -> AsyncIterator[list[Replica]]:
    """The APIs, then the workers."""
    own = {**settings, "DATA_DIR": str(service.data_dir)}
    ports = [*(free_port() for _ in range(APIS)), *[None] * WORKERS]
    async with AsyncExitStack() as stack:
        replicas = [Replica(service, own, port=port) for port in ports]
        for replica in replicas:
            stack.push_async_callback(replica.close)
            await replica.start()
        yield replicas


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """This code, with one migration more."""
    root = tmp_path / "next"
    versions = root / "migrations" / "versions"
    versions.mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.suffix != ".lock" and path.name not in {"migrations", ".venv", ".git"}:
            (root / path.name).symlink_to(path)
    for folder, copy in ((ROOT / "migrations", versions.parent), (ROOT / "migrations" / "versions", versions)):
        for path in folder.glob("*.py"):
            (copy / path.name).symlink_to(path)
    newest = max(path.name for path in versions.iterdir())
    (versions / "9000_next.py").write_text(NEXT_REVISION.format(before=newest.partition("_")[0]), encoding="utf-8")
    return root


async def test_replaced_one_by_one_by_a_version_with_a_newer_schema(
    service: RunningService, replicas: list[Replica], next_version: Path, redis_url: str, soak: bool
) -> None:
    guests = [await service.guest() for _ in range(4 if soak else 2)]
    traffic = Traffic(Proxy(replicas[:APIS]))
    async with traffic.of(guests):
        if soak:
            for replica in replicas * 3:
                await replica.stop()
                await replica.start()
        await asyncio.to_thread(upgrade, service.data_dir, next_version)
        for replica in replicas:
            await replica.stop()
            await replica.start(next_version)
    assert traffic.failed == []
    assert set(traffic.proxy.answers) == {("submit", 202), ("generate", 200), ("look", 200)}, traffic.proxy.answers
    assert databases.ask(service.data_dir, "SELECT version_num FROM alembic_version") == [("9000",)]
    await until_all_are_closed(service, 120)
    await assert_books_balance(service, redis_url, traffic.accepted, traffic.images)


async def test_connections_that_are_kept_are_told_before_they_close(api: Replica) -> None:
    address = urlsplit(api.url)

    async def ask_on_and_on(pause: float) -> str:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                writer.write(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
                if b"\r\nconnection: close\r\n" in head:
                    return "told"
                await asyncio.sleep(pause)
        return "unheard"

    asking = [asyncio.create_task(ask_on_and_on(0.01 * number)) for number in range(40)]
    await asyncio.sleep(0.5)
    await api.stop()
    assert await asyncio.gather(*asking) == ["told"] * len(asking)


def upgrade(data_dir: Path, root: Path) -> None:
    """What an operator does first, from the new version's folder."""
    where = {"DATA_DIR": str(data_dir), **databases.settings(data_dir)}
    subprocess.run(
        [sys.executable, "-m", "migrations", "upgrade"], cwd=root, env={"PATH": os.environ["PATH"], **where},
        check=True, timeout=60,
    )  # fmt: skip
