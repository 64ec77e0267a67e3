"""An export of far more than memory should hold, out of an API process of its own."""

import asyncio
import os
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO

import httpx
import orjson
import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.conftest import OPERATOR_KEY, OpenService
from tests.faults.support import SpareApi, plain_client
from tests.history.shelf import multiply, set_columns
from tests.support.installation import Installation
from tests.support.service import Guest, RunningService

IMAGE_BYTES = 1_600_000
WHOLE, SHORT = 500, 125
MOST_GROWTH = 50 * 2**20


@pytest.fixture
async def large(open_service: OpenService, gemini: GeminiStandin, soak: bool) -> tuple[RunningService, Guest, int]:
    """A guest with many images of a usual size, the same bytes in each."""
    gemini.configure(pixels=(64, 64))
    service = await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url)
    guest = await service.guest()
    image_id = (await guest.image())["history_id"]
    key = (await service.container.history.get(guest.id, image_id)).key
    (service.storage_dir / key).write_bytes(os.urandom(IMAGE_BYTES))
    set_columns(service, image_id, size=IMAGE_BYTES)
    count = WHOLE if soak else SHORT
    await multiply(service, image_id, count - 1)
    return service, guest, count


async def test_an_export_takes_no_memory_for_how_much_it_is(
    large: tuple[RunningService, Guest, int], tmp_path: Path, redis_url: str
) -> None:
    _, guest, count = large
    spare = SpareApi(Installation(tmp_path), {"REDIS_URL": redis_url})
    try:
        with tempfile.TemporaryFile(dir=tmp_path) as whole:
            async with plain_client(spare.url, {"Authorization": guest.client.headers["authorization"]}) as client:
                await take(client, whole, spare, "/api/history/export", {"mode": "chat"})
                before = spare.memory()
                most = await take(client, whole, spare, "/api/history/export", {})
            assert most - before < MOST_GROWTH, f"{(most - before) / 2**20:.0f} MB"
            with zipfile.ZipFile(whole) as archive:
                assert archive.testzip() is None
                metadata = orjson.loads(archive.read("metadata.json"))
                sizes = [entry.file_size for entry in archive.infolist() if entry.filename.startswith("images/")]
        assert (metadata["total"], metadata["missing"]) == (count, 0)
        assert sizes == [IMAGE_BYTES] * count
    finally:
        spare.close()


async def take(client: httpx.AsyncClient, target: BinaryIO, spare: SpareApi, path: str, body: dict[str, str]) -> int:
    """Write an answer into a file; answers the most memory that the API process had meanwhile."""
    target.truncate(0)
    target.seek(0)
    most = pieces = 0
    async with client.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        async for piece in response.aiter_bytes(256 * 1024):
            await asyncio.to_thread(target.write, piece)
            pieces += 1
            if pieces % 20 == 1:
                most = max(most, spare.memory())
            if pieces == 100:
                await asyncio.sleep(1)  # a reader that stops for a while must not make the sender fill its memory
                most = max(most, spare.memory())
    return most
