"""What fails, and when: the right error, nothing charged before the record stands, nothing lost after it."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from benchmarks.gemini_standin import GeminiStandin
from core.clients.embedded_redis import running_redis
from services.accounts.models import Caller
from services.generation.models import GenerationCommand
from services.quota.ledger import charges
from tests.conftest import OPERATOR_KEY, OpenService
from tests.support.databases import databases
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually


def error_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def charged(service: RunningService) -> int:
    return await service.container.database.read(
        lambda connection: connection.execute(select(func.count()).select_from(charges)).scalar_one()
    )


async def nothing_happened(service: RunningService, guest: Guest) -> None:
    """No points, no image, no object, no file in the making."""
    assert await guest.used() == 0
    assert await charged(service) == 0
    assert (await guest.history())["total"] == 0
    assert service.stored("users/**/*") == []
    assert list((service.data_dir / "spool").iterdir()) == []


async def open_gemini(open_service: OpenService, gemini: GeminiStandin, **settings: str) -> RunningService:
    return await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, **settings)


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ({"mode": "safety"}, (400, "CONTENT_BLOCKED")),
        ({"mode": "prompt_blocked"}, (400, "CONTENT_BLOCKED")),
        ({"mode": "no_image"}, (502, "NO_IMAGE")),
        ({"mode": "error", "status": 429}, (503, "PROVIDER_RATE_LIMITED")),
        ({"mode": "error", "status": 400, "message": "Bad parameter."}, (400, "PROVIDER_REJECTED")),
        ({"mode": "error", "status": 403}, (400, "INVALID_API_KEY")),
        ({"mode": "not_image"}, (503, "PROVIDER_UNAVAILABLE")),
        ({"mode": "hang"}, (504, "PROVIDER_TIMEOUT")),
        ({"mode": "drip", "drip_seconds": 20}, (504, "PROVIDER_TIMEOUT")),
        ({"mode": "reset"}, (502, "PROVIDER_CONNECTION")),
        ({"mode": "error", "status": 503}, (503, "PROVIDER_OVERLOADED")),
    ],
    ids=lambda value: value["mode"] if isinstance(value, dict) else value[1],
)
async def test_a_failure_of_the_provider_has_its_error_and_costs_nothing(
    open_service: OpenService, gemini: GeminiStandin, step: Any, error: tuple[int, str]
) -> None:
    # Too short for the first pause of 2 s, so that nothing is tried again.
    service = await open_gemini(open_service, gemini, REQUEST_TIMEOUT_SECONDS="1")
    gemini.configure(**step)
    guest = await service.guest()

    response = await guest.generate()

    assert error_of(response) == error
    await nothing_happened(service, guest)


async def test_what_the_model_said_instead_of_an_image_is_passed_on(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure(mode="no_image", text="I would rather not.")
    response = await (await gemini_service.guest()).generate()
    assert response.json()["error"]["details"]["text_response"] == "I would rather not."


async def test_an_overloaded_provider_is_asked_four_times_over_14_seconds_and_then_costs_nothing(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    """The one test that waits for all retries; the others keep the time limit below the first pause."""
    gemini.configure(mode="error", status=503)
    guest = await gemini_service.guest()

    assert error_of(await guest.generate()) == (503, "PROVIDER_OVERLOADED")
    times = [call["time"] for call in gemini.requests()]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses == [pytest.approx(seconds, abs=1) for seconds in (2, 4, 8)]
    await nothing_happened(gemini_service, guest)


async def test_a_failure_that_passes_costs_one_image(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    gemini.script({"mode": "error", "status": 503, "times": 1}, {})
    guest = await gemini_service.guest()
    await guest.image()
    assert len(gemini.requests()) == 2
    assert await guest.used() == 1 == await charged(gemini_service)


async def test_a_storage_that_takes_nothing_is_503_and_costs_nothing(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    in_the_way = gemini_service.storage_dir / "users"
    in_the_way.write_text("a file where the folder of all users should be")
    guest = await gemini_service.guest()

    response = await guest.generate()

    assert error_of(response) == (503, "STORAGE_UNAVAILABLE")
    assert response.headers["retry-after"]
    assert len(gemini.requests()) == 1
    await nothing_happened(gemini_service, guest)
    in_the_way.unlink()
    await guest.image()


def rename_table(service: RunningService, before: str, after: str) -> None:
    databases.change(service.data_dir, f"ALTER TABLE {before} RENAME TO {after}")


async def test_a_database_that_fails_when_the_image_is_stored_is_503_and_the_sweep_finishes(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    service = await open_gemini(
        open_service, gemini, REQUEST_TIMEOUT_SECONDS="1.5", RESERVATION_GRACE_SECONDS="0"
    )  # fmt: skip
    gemini.configure(delay_seconds=0.5)
    guest = await service.guest()
    call = asyncio.create_task(guest.generate())
    await gemini.until(lambda stats: stats["waiting"] == 1)
    rename_table(service, "images", "images_gone")

    assert error_of(await call) == (503, "DEPENDENCY_UNAVAILABLE")
    assert len(service.stored("users/**/*.png")) == 1
    assert await charged(service) == 0
    rename_table(service, "images_gone", "images")
    assert await guest.used() == 1, "held until the sweep"

    async def swept() -> bool:
        return await service.container.recovery.sweep() == 1

    assert await eventually(swept)
    assert (await guest.history())["total"] == 1
    assert await charged(service) == 1 == await guest.used()


async def test_redis_that_goes_while_the_image_is_made_costs_neither_image_nor_answer(
    open_service: OpenService, gemini: GeminiStandin, tmp_path: Path
) -> None:
    gemini.configure(delay_seconds=0.7)
    with running_redis(tmp_path / "own") as server:
        service = await open_gemini(
            open_service, gemini, REDIS_URL=server.url, REQUEST_TIMEOUT_SECONDS="2", RESERVATION_GRACE_SECONDS="0"
        )
        guest = await service.guest()
        call = asyncio.create_task(guest.generate())
        await gemini.until(lambda stats: stats["waiting"] == 1)

    response = await call

    assert response.status_code == 200, response.text
    assert await charged(service) == 1
    image_url = response.json()["data"]["image_url"]
    assert (await service.client.get(image_url)).status_code == 200, "images need no Redis"
    assert error_of(await guest.generate()) == (503, "DEPENDENCY_UNAVAILABLE")

    with running_redis(tmp_path / "own"):
        assert await guest.used() == 1
        assert (await guest.history())["total"] == 1

        async def swept() -> bool:
            return await service.container.recovery.sweep() == 1

        assert await eventually(swept)
        assert await guest.used() == 1


async def test_redis_that_comes_back_empty_counts_what_the_ledger_has(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    service = await open_gemini(open_service, gemini)
    gemini.configure(delay_seconds=0.5)
    guest = await service.guest()
    call = asyncio.create_task(guest.generate())
    await gemini.until(lambda stats: stats["waiting"] == 1)
    await service.container.redis.flushall()

    assert (await call).status_code == 200
    assert await (await service.guest()).used() == 1 == await charged(service)


async def test_redis_away_from_the_start_is_503_before_anything_is_spent(
    open_service: OpenService, gemini: GeminiStandin, tmp_path: Path
) -> None:
    with running_redis(tmp_path / "own") as server:
        service = await open_gemini(open_service, gemini, REDIS_URL=server.url)
        guest = await service.guest()

    assert error_of(await guest.generate()) == (503, "DEPENDENCY_UNAVAILABLE")
    assert gemini.requests() == []


async def test_a_client_that_hangs_up_while_the_image_is_made_finds_it_in_the_history(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure(delay_seconds=0.7)
    guest = await gemini_service.guest()
    call = asyncio.create_task(guest.generate("a lighthouse for later"))
    await gemini.until(lambda stats: stats["waiting"] == 1)
    call.cancel()

    async def there() -> bool:
        return bool((await guest.history())["total"] == 1)

    assert await eventually(there)
    assert gemini.stats()["dropped"] == 0
    assert await charged(gemini_service) == 1 == await guest.used()
    assert (await guest.history())["items"][0]["prompt"] == "a lighthouse for later"


async def test_who_waits_may_be_cancelled_and_a_stop_waits_for_the_image(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure(delay_seconds=0.7)
    guest = await gemini_service.guest()
    generation = gemini_service.container.generation
    waiting = asyncio.create_task(generation.generate(command_of(guest), still_wanted))
    await gemini.until(lambda stats: stats["waiting"] == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    await generation.drain(10)

    assert (await guest.history())["total"] == 1
    assert await charged(gemini_service) == 1 == await guest.used()


async def still_wanted() -> bool:
    return True


def command_of(guest: Guest) -> GenerationCommand:
    return GenerationCommand(
        request_id="req_of_a_test",
        caller=Caller(guest.id, "guest", "0123456789abcdef", "ses_of_a_test", "127.0.0.1"), own_key=None, mode="basic",
        prompt="a lighthouse", aspect_ratio="1:1", resolution="1K", safety_level="moderate",
    )  # fmt: skip


async def test_a_client_that_hangs_up_before_the_provider_is_called_pays_nothing(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await gemini_service.guest()
    request = guest.client.build_request("POST", "/api/generate/basic", json={"prompt": "never mind"})
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    _, writer = await asyncio.open_connection(request.url.host, request.url.port)
    # The server finds the request and its end together: the caller is gone before the first answer of Redis.
    writer.write(f"POST {request.url.path} HTTP/1.1\r\n{head}\r\n".encode() + request.content)
    writer.close()

    async def given_up() -> bool:
        return 'outcome="client_gone"' in gemini_service.container.metrics.render().decode()

    assert await eventually(given_up)
    assert gemini.requests() == []
    await nothing_happened(gemini_service, guest)
    assert 'quota_reservations_total{outcome="released"} 1.0' in gemini_service.container.metrics.render().decode()
