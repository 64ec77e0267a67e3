"""Trying Gemini again: how often, how far apart, and what is left of a try that is given up."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import ParamSpec, TypeVar

import aiohttp
import pytest
from pydantic import SecretStr

from benchmarks.gemini_standin import GeminiStandin
from benchmarks.standin_behaviour import StepFields
from core.errors import AppError
from core.metrics import Metrics
from services.providers.base import Capability, ImageRequest, ImageResult
from services.providers.catalog import load_catalog
from services.providers.errors import ProviderTimeout
from services.providers.gemini import GeminiProvider
from services.providers.service import ProviderService, Route
from services.storage.spool import Spool
from tests.providers.upstream import error_of, image_calls, kept_files
from tests.support.service import RunningService

P = ParamSpec("P")
Result = TypeVar("Result")


class SlowThreads(ThreadPoolExecutor):
    """Threads on a machine whose disk is slow: each piece of work takes this long before it begins."""

    def __init__(self, seconds: float) -> None:
        super().__init__(2)
        self._seconds = seconds

    def submit(self, work: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        def slowly() -> Result:
            time.sleep(self._seconds)
            return work(*args, **kwargs)

        return super().submit(slowly)


@asynccontextmanager
async def provider_service(
    url: str, folder: Path, *, total_seconds: float = 60, disk_seconds: float = 0
) -> AsyncIterator[ProviderService]:
    """The real service with pauses of milliseconds between its tries."""
    catalog = load_catalog(folder / "models.toml", default_models={})
    with SlowThreads(disk_seconds) as threads:
        gemini = GeminiProvider(url, aiohttp.ClientSession(), Spool(folder / "spool"), threads)
        keys = {"gemini": SecretStr("good-key")}
        service = ProviderService(
            {"gemini": gemini}, gemini, catalog, keys, Metrics(), total_seconds=total_seconds, first_pause_seconds=0.01
        )
        try:
            yield service
        finally:
            await service.close()


async def make_image(service: ProviderService) -> ImageResult:
    route: Route = service.route(
        Capability.TEXT_TO_IMAGE, provider=None, model=None, own_key=None, operator_key_allowed=True
    )
    request = ImageRequest(
        model=route.model, prompt="a lighthouse", aspect_ratio="1:1", resolution="1K", safety_level="moderate",
        enable_thinking=False, seed=None, negative_prompt=None, api_key=route.api_key,
    )  # fmt: skip
    return await service.make_image(route, request)


TRIES: list[tuple[StepFields, int]] = [
    ({"mode": "error", "status": 503}, 4),
    ({"mode": "error", "status": 502}, 4),
    ({"mode": "error", "status": 504}, 4),
    ({"mode": "reset"}, 4),
    ({"mode": "half", "image_bytes": 900_000}, 4),
    ({"mode": "broken_json", "image_bytes": 900_000}, 4),
    ({"mode": "html"}, 4),
    ({"mode": "error", "status": 429}, 1),
    ({"mode": "error", "status": 500}, 1),
    ({"mode": "error", "status": 400}, 1),
    ({"mode": "error", "status": 403}, 1),
    ({"mode": "error", "status": 404}, 1),
    ({"mode": "error", "status": 400, "reason": "API_KEY_INVALID"}, 1),
    ({"mode": "safety"}, 1),
    ({"mode": "prompt_blocked"}, 1),
    ({"mode": "no_image"}, 1),
    ({"mode": "redirect"}, 1),
    ({"mode": "huge"}, 1),
]


@pytest.mark.parametrize(("step", "tries"), TRIES, ids=lambda value: str(value)[:50])
async def test_what_may_pass_is_tried_four_times_and_the_rest_once(
    gemini: GeminiStandin, tmp_path: Path, step: StepFields, tries: int
) -> None:
    gemini.configure(**step)
    async with provider_service(gemini.url, tmp_path) as service:
        with pytest.raises(AppError):
            await make_image(service)
    assert len(image_calls(gemini)) == tries
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("failures", [1, 2, 3])
async def test_the_first_try_that_works_is_the_last(gemini: GeminiStandin, tmp_path: Path, failures: int) -> None:
    gemini.script({"mode": "half", "times": failures, "image_bytes": 900_000}, {"image_bytes": 900_000})
    async with provider_service(gemini.url, tmp_path) as service:
        result = await make_image(service)
    assert result.image.size == 900_000
    assert len(image_calls(gemini)) == failures + 1
    assert list((tmp_path / "spool").iterdir()) == [result.image.path]


async def test_a_block_ends_the_tries(gemini: GeminiStandin, tmp_path: Path) -> None:
    gemini.script({"mode": "error", "status": 503, "times": 1}, {"mode": "safety"})
    async with provider_service(gemini.url, tmp_path) as service:
        with pytest.raises(AppError) as raised:
            await make_image(service)
    assert raised.value.code == "CONTENT_BLOCKED"
    assert len(image_calls(gemini)) == 2


async def test_all_tries_together_stay_within_their_time(gemini: GeminiStandin, tmp_path: Path) -> None:
    gemini.configure(mode="error", status=503, delay_seconds=0.4)
    async with provider_service(gemini.url, tmp_path, total_seconds=1) as service:
        with pytest.raises(AppError) as raised:
            await make_image(service)
    assert raised.value.code in {"PROVIDER_OVERLOADED", "PROVIDER_TIMEOUT"}
    assert len(image_calls(gemini)) <= 3


async def test_a_call_that_is_given_up_while_the_disk_still_writes_leaves_no_file(
    gemini: GeminiStandin, tmp_path: Path
) -> None:
    """The thread goes on when the call is cancelled; what it writes then must go too."""
    gemini.configure(image_bytes=2_600_000)
    async with provider_service(gemini.url, tmp_path, disk_seconds=0.5) as service:
        for seconds in (0.3, 0.8):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(make_image(service), seconds)
    assert len(image_calls(gemini)) == 2
    assert list((tmp_path / "spool").iterdir()) == []


async def test_a_timeout_while_the_disk_still_writes_is_a_timeout(gemini: GeminiStandin, tmp_path: Path) -> None:
    gemini.configure(image_bytes=900_000)
    async with provider_service(gemini.url, tmp_path, total_seconds=0.3, disk_seconds=0.5) as service:
        with pytest.raises(ProviderTimeout):
            await make_image(service)
    assert list((tmp_path / "spool").iterdir()) == []


async def test_tries_are_two_four_and_eight_seconds_apart_and_then_the_caller_is_told(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure(mode="error", status=503)
    guest = await gemini_service.guest()
    response = await guest.generate()
    assert (response.status_code, error_of(response)["code"]) == (503, "PROVIDER_OVERLOADED")
    times = [call["time"] for call in image_calls(gemini)]
    pauses = [after - before for before, after in pairwise(times)]
    assert all(wanted <= pause < wanted + 2 for pause, wanted in zip(pauses, (2, 4, 8), strict=True)), pauses
    assert await guest.used() == 0
    assert kept_files(gemini_service) == []
