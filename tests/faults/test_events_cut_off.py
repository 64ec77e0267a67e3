"""Somebody who watches a real task, is cut off again and again, also by a restart of the API, and comes back with the
last id that they have: they see each event once, in order.
"""

import asyncio
import random
from contextlib import suppress

import httpx
import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.conftest import OPERATOR_KEY
from tests.faults.replicas import Replica
from tests.support.event_source import Sent, all_of, watching
from tests.support.service import RunningService
from tests.tasks.conftest import NO_LIMITS
from tests.tasks.workers import Workers, submit_batch

IMAGES = 10
IMAGE_SECONDS = 0.8
CUTS = 20


@pytest.fixture
def settings(gemini: GeminiStandin, redis_url: str) -> dict[str, str]:
    gemini.configure(pixels=(64, 64), delay_seconds=IMAGE_SECONDS)
    return {
        "GOOGLE_API_KEY": OPERATOR_KEY, "GOOGLE_GEMINI_BASE_URL": gemini.url, "REDIS_URL": redis_url,
        "BATCH_CONCURRENCY": "1", **NO_LIMITS,
    }  # fmt: skip


async def test_who_is_cut_off_comes_back_and_misses_nothing(
    service: RunningService, workers: Workers, api: Replica
) -> None:
    guest = await service.guest()
    task_id = await submit_batch(guest, IMAGES)
    await workers.start()
    seen, cuts = list[Sent](), 0
    async with httpx.AsyncClient(base_url=api.url, headers=guest.client.headers, timeout=30, verify=False) as client:
        while not seen or seen[-1].type != "completed":
            async with watching(client, task_id, seen[-1].id if seen else "") as events:
                with suppress(TimeoutError):
                    async with asyncio.timeout(random.uniform(0.05, 0.35)):
                        async for event in events:
                            seen += [event] if event.id else []
            cuts += 1
            if cuts == CUTS // 2:
                await api.stop()
                await api.start()
        assert seen == await all_of(client, task_id)
    assert cuts >= CUTS
    assert [event.type for event in seen] == ["started", *["progress"] * (IMAGES - 1), "completed"]
    ids = [int(event.id) for event in seen]
    assert ids == sorted(set(ids))
