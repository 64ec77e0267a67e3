"""The demo provider over HTTP: reproducible pictures of exact size, and trouble on request."""

import asyncio
import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from services.providers.base import ImageRequest
from services.providers.catalog import load_catalog
from services.providers.demo.provider import FAILURES, DemoProvider
from services.storage.spool import Spool
from tests.conftest import OpenService
from tests.providers.upstream import error_of, image_rows, kept_files, override_catalog
from tests.support.service import Guest, RunningService

RATIOS = ["1:1", "16:9", "9:16", "4:3", "3:4", "2:3", "3:2", "4:5", "5:4", "21:9"]
SECRET = "a-secret-key-for-tests-of-production-0123456789"
ERRORS = {
    "safety": (400, "CONTENT_BLOCKED"),
    "no_image": (502, "NO_IMAGE"),
    "overloaded": (503, "PROVIDER_OVERLOADED"),
    "unavailable": (503, "PROVIDER_UNAVAILABLE"),
    "timeout": (504, "PROVIDER_TIMEOUT"),
    "rate_limited": (503, "PROVIDER_RATE_LIMITED"),
    "connection": (502, "PROVIDER_CONNECTION"),
}


async def picture(guest: Guest, prompt: str, **fields: object) -> bytes:
    data = await guest.image(prompt, aspect_ratio="1:1", **fields)
    response = await guest.client.get(data["image_url"])
    assert response.status_code == 200
    return response.content


async def test_prompt_and_seed_make_the_picture(service: RunningService) -> None:
    guest = await service.guest()
    first = await picture(guest, "a lighthouse", seed=7)
    assert await picture(guest, "a lighthouse", seed=7) == first
    assert await picture(guest, "a lighthouse", seed=8) != first
    assert await picture(guest, "a windmill", seed=7) != first


async def test_without_a_seed_the_prompt_alone_decides(service: RunningService) -> None:
    guest, other = await service.guest(), await service.guest()
    first = await picture(guest, "a lighthouse")
    assert await picture(other, " a lighthouse [demo:slow=0.01]") == first


@pytest.mark.parametrize("ratio", RATIOS)
async def test_each_ratio_is_exact(service: RunningService, ratio: str) -> None:
    guest = await service.guest()
    data = await guest.image(aspect_ratio=ratio)
    across, down = map(int, ratio.split(":"))
    image = Image.open(io.BytesIO((await service.client.get(data["image_url"])).content))
    assert image.size == (data["width"], data["height"])
    assert image.width * down == image.height * across
    assert 1300 <= max(image.size) <= 1344
    item = (await guest.history())["items"][0]
    assert (item["width"], item["height"], item["settings"]["aspect_ratio"]) == (*image.size, ratio)


async def test_a_picture_is_named_as_the_demos(service: RunningService) -> None:
    data = await (await service.guest()).image()
    assert (data["provider"], data["model"], data["mime_type"]) == ("demo", "demo", "image/png")


async def test_slow_answers_after_that_time(service: RunningService) -> None:
    guest = await service.guest()
    started = time.monotonic()
    data = await guest.image("a lighthouse [demo:slow=1.5]")
    assert time.monotonic() - started >= 1.5
    assert data["duration"] >= 1.5


def test_every_failure_is_tested() -> None:
    assert set(ERRORS) == set(FAILURES)


async def test_each_failure_on_request_is_that_error_and_costs_nothing(
    open_service: OpenService, tmp_path: Path
) -> None:
    override_catalog(tmp_path)
    service = await open_service()
    guest = await service.guest()
    for name, wanted in ERRORS.items():
        response = await guest.generate(f"a lighthouse [demo:fail={name}]")
        assert (response.status_code, error_of(response)["code"]) == wanted
        assert await guest.used() == 0
    assert kept_files(service) == []
    assert image_rows(service) == 0


async def test_an_unknown_wish_for_trouble_is_drawn_as_text(service: RunningService) -> None:
    assert await (await service.guest()).image("a lighthouse [demo:fail=no_such] [demo:slow=x]")


async def test_what_the_demo_does_not_take_is_refused(service: RunningService) -> None:
    response = await (await service.guest()).generate(enable_thinking=True, negative_prompt="fog")
    assert response.status_code == 422
    assert {entry["field"] for entry in error_of(response)["details"]["fields"]} == {
        "enable_thinking",
        "negative_prompt",
    }


async def test_production_has_no_demo(open_service: OpenService) -> None:
    service = await open_service(ENVIRONMENT="production", SECRET_KEY=SECRET)
    guest = await service.guest()
    named = await guest.generate(provider="demo")
    assert named.status_code == 422
    (field,) = error_of(named)["details"]["fields"]
    assert (field["field"], field["allowed"]) == ("provider", ["gemini"])
    unnamed = await guest.generate()
    assert (unnamed.status_code, error_of(unnamed)["code"]) == (400, "API_KEY_REQUIRED")


async def test_a_drawing_that_is_given_up_leaves_no_file(tmp_path: Path) -> None:
    model = load_catalog(tmp_path / "none.toml", default_models={}).models["demo"]
    request = ImageRequest(
        model=model, prompt="a lighthouse", aspect_ratio="1:1", resolution="1K", safety_level="moderate",
        enable_thinking=False, seed=None, negative_prompt=None, api_key=None,
    )  # fmt: skip
    with ThreadPoolExecutor(1) as threads:
        drawing = asyncio.create_task(DemoProvider(Spool(tmp_path / "spool"), threads).make_image(request))
        await asyncio.sleep(0.05)
        drawing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drawing
        # One thread: when it answers this, the drawing is done, and its callback has run one turn later.
        await asyncio.get_running_loop().run_in_executor(threads, int)
        await asyncio.sleep(0.05)
    assert list((tmp_path / "spool").iterdir()) == []
