"""Many at once, on real processes: the pool holds, no image is lost, the service keeps answering."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.conftest import OPERATOR_KEY
from tests.support.databases import databases
from tests.support.installation import Installation

AMPLE = {
    "TRIAL_GLOBAL_QUOTA": "1000", "TRIAL_GUEST_SHARE": "1", "TRIAL_COOLDOWN_SECONDS": "0",
    "TRIAL_BASIC_1K_LIMIT": "1000", "GUEST_RATE_PER_HOUR": "1000", "RATE_LIMIT_REQUESTS": "1000",
    "AI_MODERATION_ENABLED": "false", "GOOGLE_API_KEY": OPERATOR_KEY,
}  # fmt: skip
CLIENT_SECONDS = 60

Start = Callable[..., Installation]


@pytest.fixture
def start(tmp_path: Path, gemini: GeminiStandin) -> Iterator[Start]:
    installation = Installation(tmp_path)

    def start(**settings: str) -> Installation:
        installation.start(**{**AMPLE, "GOOGLE_GEMINI_BASE_URL": gemini.url, **settings})
        return installation

    yield start
    installation.clean_up()


@asynccontextmanager
async def client_of(installation: Installation) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=installation.url, timeout=CLIENT_SECONDS, limits=limits) as client:
        yield client


async def sign_in(client: httpx.AsyncClient) -> dict[str, str]:
    response = await client.post("/api/auth/guest", json={})
    assert response.status_code == 200, response.text
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


async def generate(client: httpx.AsyncClient, guest: dict[str, str], prompt: str = "a lighthouse") -> httpx.Response:
    return await client.post("/api/generate/basic", json={"prompt": prompt}, headers=guest)


async def used(client: httpx.AsyncClient, guest: dict[str, str]) -> int:
    points: int = (await client.get("/api/quota", headers=guest)).json()["global"]["used"]
    return points


def rows(installation: Installation, query: str) -> list[Any]:
    return list(databases.ask(installation.data, query))


async def test_120_requests_on_two_processes_get_exactly_the_ten_images_of_the_pool(
    start: Start, gemini: GeminiStandin
) -> None:
    installation = start(TRIAL_GLOBAL_QUOTA="10", WEB_CONCURRENCY="2")
    gemini.configure(delay_seconds=0.5)
    async with client_of(installation) as client:
        guests = await asyncio.gather(*(sign_in(client) for _ in range(60)))
        answers = await asyncio.gather(*(generate(client, guest) for guest in [*guests, *guests]))

        assert Counter(answer.status_code for answer in answers) == {200: 10, 429: 110}
        errors = [answer.json()["error"] for answer in answers if answer.status_code == 429]
        assert {(error["code"], error["details"]["reason"]) for error in errors} == {("QUOTA_EXCEEDED", "pool")}
        assert gemini.stats()["total"] == 10
        assert await used(client, guests[0]) == 10
    assert rows(installation, "SELECT count(*), sum(points) FROM charges") == [(10, 10)]
    assert rows(installation, "SELECT count(*) FROM images") == [(10,)]


async def test_20_saves_of_one_prompt_at_once_on_two_processes_are_20_images(
    start: Start, gemini: GeminiStandin
) -> None:
    installation = start(WEB_CONCURRENCY="2")
    gemini.configure(delay_seconds=0.5, image_bytes=100_000)
    async with client_of(installation) as client:
        guest = await sign_in(client)
        answers = await asyncio.gather(*(generate(client, guest) for _ in range(20)))
        assert [answer.status_code for answer in answers] == [200] * 20
        ids = {answer.json()["data"]["history_id"] for answer in answers}
        listed = (await client.get("/api/history", params={"limit": 50}, headers=guest)).json()
        assert await used(client, guest) == 20

    storage = installation.data / "storage"
    objects = sorted(storage.glob("users/**/*.png"))
    assert len(ids) == len(objects) == len(list(storage.glob("users/**/*.json"))) == 20
    assert {path.stat().st_size for path in objects} == {100_000}
    assert (listed["total"], {item["id"] for item in listed["items"]}) == (20, ids)
    keys = [key for (key,) in rows(installation, "SELECT key FROM images ORDER BY key")]
    assert keys == [path.relative_to(storage).as_posix() for path in objects]
    assert rows(installation, "SELECT count(*) FROM charges") == [(20,)]


async def test_50_generations_under_way_on_one_process_leave_it_free_to_answer(
    start: Start, gemini: GeminiStandin
) -> None:
    installation = start(WEB_CONCURRENCY="1")
    gemini.configure(delay_seconds=2, image_bytes=1_000_000)
    async with client_of(installation) as client:
        guest = await sign_in(client)
        await generate(client, guest)  # the stand-in makes its picture once
        gemini.clear_requests()

        calls = [asyncio.create_task(generate(client, guest)) for _ in range(50)]
        latencies = []
        while not all(call.done() for call in calls):
            started = time.perf_counter()
            assert (await client.get("/api/health")).status_code == 200
            latencies.append(time.perf_counter() - started)
            await asyncio.sleep(0.05)

        assert [call.result().status_code for call in calls] == [200] * 50
        assert gemini.stats()["peak_waiting"] > 40, "they were under way at once"
        assert len(latencies) >= 10
        assert statistics.median(latencies) < 0.5
        assert await used(client, guest) == 51
