"""The one pipeline over HTTP: in which order it checks, and what stands where when it is through."""

import asyncio
import base64
import io
from typing import Any

import httpx
import orjson
import pytest
from PIL import Image
from sqlalchemy import select

from benchmarks.gemini_standin import GeminiStandin
from core.clock import next_utc_day, now_ms, utc_day
from services.history.records import read_record
from services.quota.ledger import charges
from services.storage.names import slug
from tests.conftest import OPERATOR_KEY, OpenService
from tests.support.service import RunningService

BANNED = "a nude portrait"
WRONG_RATIO = "7:5"
OWN_KEY = {"X-API-Key": "AIzaOwnKeyOfACaller00000000000000000000"}


def code(response: httpx.Response) -> str:
    answer: str = response.json()["error"]["code"]
    return answer


async def ledger_rows(service: RunningService) -> list[dict[str, Any]]:
    rows = await service.container.database.read(lambda connection: connection.execute(select(charges)).all())
    return [dict(row._mapping) for row in rows]


async def open_strict(open_service: OpenService, gemini: GeminiStandin, **settings: str) -> RunningService:
    """With the operator's key, and settings under which each step would refuse."""
    return await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, **settings)


class TestOrder:
    """identify → rate-limit → validate → keywords → reserve → provider; each step refuses before the next one."""

    async def test_who_calls_comes_before_how_often(self, open_service: OpenService, gemini: GeminiStandin) -> None:
        service = await open_strict(open_service, gemini, RATE_LIMIT_REQUESTS="1")
        forged = {"Authorization": "Bearer forged"}
        answers = [
            await service.client.post("/api/generate/basic", json={"prompt": BANNED}, headers=forged) for _ in range(3)
        ]
        assert [code(answer) for answer in answers] == ["UNAUTHORIZED"] * 3

    async def test_how_often_comes_before_what_is_asked(self, open_service: OpenService, gemini: GeminiStandin) -> None:
        service = await open_strict(open_service, gemini, RATE_LIMIT_REQUESTS="1")
        guest = await service.guest()
        first, second = [await guest.generate(BANNED, aspect_ratio=WRONG_RATIO) for _ in range(2)]
        assert (code(first), code(second)) == ("VALIDATION_ERROR", "RATE_LIMITED")

    async def test_what_the_model_can_do_comes_before_the_keywords(
        self, open_service: OpenService, gemini: GeminiStandin
    ) -> None:
        service = await open_strict(open_service, gemini, TRIAL_GLOBAL_QUOTA="0")
        response = await (await service.guest()).generate(BANNED, aspect_ratio=WRONG_RATIO)

        assert code(response) == "VALIDATION_ERROR"
        assert [field["field"] for field in response.json()["error"]["details"]["fields"]] == ["aspect_ratio"]
        assert service.stored("logs/**/*") == [], "no check was made"

    async def test_the_keywords_come_before_the_quota(self, open_service: OpenService, gemini: GeminiStandin) -> None:
        service = await open_strict(open_service, gemini, TRIAL_GLOBAL_QUOTA="0")
        assert code(await (await service.guest()).generate(BANNED)) == "CONTENT_BLOCKED"

    async def test_a_banned_word_reserves_nothing_and_starts_no_cooldown(
        self, open_service: OpenService, gemini: GeminiStandin
    ) -> None:
        service = await open_strict(open_service, gemini, TRIAL_COOLDOWN_SECONDS="60")
        guest = await service.guest()
        response = await guest.generate(BANNED)

        assert (response.status_code, code(response)) == (400, "CONTENT_BLOCKED")
        assert not [key async for key in service.container.redis.scan_iter("quota:*")]
        assert gemini.requests() == []
        await guest.image()

    async def test_the_quota_comes_before_the_provider(self, open_service: OpenService, gemini: GeminiStandin) -> None:
        service = await open_strict(open_service, gemini, TRIAL_GLOBAL_QUOTA="0")
        assert code(await (await service.guest()).generate()) == "QUOTA_EXCEEDED"
        assert gemini.requests() == []


async def test_the_bytes_the_provider_sent_are_the_bytes_that_are_kept_and_served(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure(image_bytes=300_000, mime="image/jpeg")
    guest = await gemini_service.guest()
    data = await guest.image(include_base64=True)

    (stored,) = gemini_service.stored("users/**/*.jpg")
    sent = base64.b64decode(data["image_base64"])
    assert len(sent) == 300_000
    assert stored.read_bytes() == sent
    assert (await gemini_service.client.get(data["image_url"])).content == sent
    with Image.open(io.BytesIO(sent)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (data["width"], data["height"]))
    assert data["mime_type"] == "image/jpeg"


async def test_the_answer_has_no_bytes_unless_asked_for(gemini_service: RunningService) -> None:
    assert (await (await gemini_service.guest()).image())["image_base64"] is None


async def test_object_record_row_and_ledger_agree(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    prompt = "A lighthouse, at dusk… 灯塔"
    gemini.configure(mode="text_and_image", text="Here it is.")
    guest = await gemini_service.guest()
    data = await guest.image(prompt, resolution="2K", aspect_ratio="4:3", safety_level="strict", seed=7)

    (stored,) = gemini_service.stored("users/**/*.png")
    record = read_record(stored.with_suffix(".json").read_bytes())
    image, charge = record.image, record.charge
    assert (image.prompt, image.aspect_ratio, image.resolution, image.mode) == (prompt, "4:3", "2K", "basic")
    assert (image.provider, image.model) == (data["provider"], data["model"]) == ("gemini", "gemini-3-pro-image")
    assert (image.safety_level, image.seed, image.text_response) == ("strict", 7, data["text_response"])
    assert (image.width, image.height, image.size) == (data["width"], data["height"], stored.stat().st_size)
    assert (image.id, image.user_id, image.duration) == (data["history_id"], guest.id, data["duration"])

    assert charge is not None
    assert (charge.points, charge.count, charge.mode, charge.identity.user_id) == (1, 1, "basic_1k", guest.id)
    assert await gemini_service.container.history.get(guest.id, image.id) == image
    assert await ledger_rows(gemini_service) == [
        {
            "image_id": image.id, "reservation_id": charge.id, "user_id": guest.id, "guest_address": "127.0.0.1",
            "mode": "basic_1k", "points": 1, "day": charge.day, "created_at": pytest.approx(now_ms(), abs=60_000),
            "service_key_id": None,
        }
    ]  # fmt: skip
    assert await guest.used() == 1
    assert list((gemini_service.data_dir / "spool").iterdir()) == []


async def test_an_object_lies_where_the_old_bucket_has_it(gemini_service: RunningService) -> None:
    before = now_ms()
    await (await gemini_service.guest()).image("A red fox!")
    (stored,) = gemini_service.stored("users/**/*.png")

    users, folder, year, month, day, name = stored.relative_to(gemini_service.storage_dir).parts
    assert (users, len(folder), int(folder, 16) >= 0) == ("users", 16, True)
    assert f"{year}-{month}-{day}" in {utc_day(before), utc_day(next_utc_day(before))}
    mode, clock, *words, token = name.removesuffix(".png").split("_")
    assert (mode, len(clock), "_".join(words), len(token)) == ("basic", 6, slug("A red fox!"), 6)


async def test_an_image_that_is_not_for_the_history_is_kept_for_its_link_alone(
    gemini_service: RunningService,
) -> None:
    guest = await gemini_service.guest()
    data = await guest.image(save_to_history=False)

    (stored,) = gemini_service.stored("unlisted/*/*.png")
    record = read_record(stored.with_suffix(".json").read_bytes())
    assert gemini_service.stored("users/**/*") == []
    assert data["history_id"] is None
    assert (await guest.history())["total"] == 0
    assert (await gemini_service.client.get(data["image_url"])).content == stored.read_bytes()
    assert record.image.expires_at == pytest.approx(now_ms() + 24 * 3600 * 1000, abs=60_000)
    assert await guest.used() == 1, "it is charged like any other"


async def test_an_own_key_is_used_kept_and_not_charged(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    guest = await gemini_service.guest()
    response = await guest.client.post("/api/generate/basic", json={"prompt": "a fox"}, headers=OWN_KEY)

    assert response.status_code == 200, response.text
    assert [call["headers"]["x-goog-api-key"] for call in gemini.requests()] == list(OWN_KEY.values())
    (stored,) = gemini_service.stored("users/**/*.json")
    assert orjson.loads(stored.read_bytes())["charge"] is None
    assert (await guest.history())["total"] == 1
    assert await ledger_rows(gemini_service) == []
    assert OWN_KEY["X-API-Key"] not in stored.read_text(encoding="utf-8")


async def test_an_anonymous_caller_with_an_own_key_gets_the_image_inline_and_nothing_is_kept(
    gemini_service: RunningService,
) -> None:
    response = await gemini_service.client.post("/api/generate/basic", json={"prompt": "a fox"}, headers=OWN_KEY)

    data = response.json()["data"]
    with Image.open(io.BytesIO(base64.b64decode(data["image_base64"]))) as picture:
        assert picture.size == (data["width"], data["height"])
    assert (data["image_url"], data["thumbnail_url"], data["history_id"]) == (None, None, None)
    assert gemini_service.stored("users/**/*") == gemini_service.stored("unlisted/**/*") == []
    assert list((gemini_service.data_dir / "spool").iterdir()) == []


async def test_what_is_reserved_shows_as_used_while_the_image_is_made(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure(mode="error", status=429, delay_seconds=1)
    guest, other = await gemini_service.guest(), await gemini_service.guest()
    call = asyncio.create_task(guest.generate())
    await gemini.until(lambda stats: stats["waiting"] == 1)

    assert await other.used() == 1
    assert code(await call) == "PROVIDER_RATE_LIMITED"
    assert await other.used() == 0
