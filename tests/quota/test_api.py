"""/api/quota, and the refusals of the quota, over HTTP."""

from typing import Any

import httpx
import pytest

from benchmarks.gemini_standin import GeminiStandin
from core.clock import next_utc_day, now_ms, rfc3339
from tests.conftest import OPERATOR_KEY, OpenService
from tests.support.people import registered
from tests.support.service import Guest, RunningService

OWN_KEY = {"X-API-Key": "AIzaOwnKeyOfACaller00000000000000000000"}
OTHER_MODES = {
    "chat": {"name": "Chat", "used": 0, "limit": 20, "remaining": 20, "cost": 1},
    "batch_1k": {"name": "Batch (1K/2K)", "used": 0, "limit": 15, "remaining": 15, "cost": 1},
    "batch_4k": {"name": "Batch (4K)", "used": 0, "limit": 5, "remaining": 5, "cost": 3},
    "search": {"name": "Search", "used": 0, "limit": 15, "remaining": 15, "cost": 2},
    "blend": {"name": "Blend/Style", "used": 0, "limit": 10, "remaining": 10, "cost": 2},
    "text": {"name": "Prompt tools", "used": 0, "limit": 50, "remaining": 50, "cost": 0},
}


async def quota(guest: Guest, **headers: str) -> dict[str, Any]:
    response = await guest.client.get("/api/quota", headers=headers)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def check(guest: Guest, mode: str, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    response = await guest.client.post("/api/quota/check", json={"mode": mode, **fields}, headers=headers)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def refusal(response: httpx.Response, code: str) -> dict[str, Any]:
    assert response.status_code == 429, response.text
    error = response.json()["error"]
    assert error["code"] == code
    assert response.headers["retry-after"] == str(error["details"]["retry_after"])
    details: dict[str, Any] = error["details"]
    return details


async def test_one_of_fifty_is_used_after_one_image(service: RunningService) -> None:
    guest = await service.guest()
    await guest.image()

    body = await quota(guest)

    assert body.pop("resets_at") == rfc3339(next_utc_day(now_ms()))
    assert body == {
        "is_trial_mode": True,
        "global": {"used": 1, "limit": 50, "remaining": 49},
        "modes": {
            "basic_1k": {"name": "Basic (1K/2K)", "used": 1, "limit": 30, "remaining": 29, "cost": 1},
            "basic_4k": {"name": "Basic (4K)", "used": 0, "limit": 10, "remaining": 10, "cost": 3},
            **OTHER_MODES,
        },
        "guest_share": {"used": 1, "limit": 10, "remaining": 9},
        "cooldown": {"active": False, "remaining_seconds": 0},
    }


async def test_who_is_no_guest_has_no_share_of_theirs(service: RunningService) -> None:
    user = await registered(service, "ann@example.com")
    body = await quota(user)
    assert body["guest_share"] is None
    assert (await check(user, "basic"))["quota_info"] == body


async def test_the_pool_is_everybodys_and_the_modes_are_ones_own(service: RunningService) -> None:
    first, second = await service.guest(), await service.guest()
    await first.image(resolution="2K")

    body = await quota(second)
    assert body["global"]["used"] == 1
    assert body["modes"]["basic_1k"]["used"] == 0


async def test_4k_costs_three_points_and_counts_as_its_own_mode(open_service: OpenService) -> None:
    service = await open_service(TRIAL_BASIC_4K_COST="3")
    guest = await service.guest()
    await guest.image(resolution="4K", aspect_ratio="21:9")

    body = await quota(guest)
    assert body["global"]["used"] == 3
    assert (body["modes"]["basic_1k"]["used"], body["modes"]["basic_4k"]["used"]) == (0, 1)


async def test_a_second_image_within_the_cooldown_is_refused_with_the_seconds_to_wait(
    open_service: OpenService,
) -> None:
    service = await open_service(TRIAL_COOLDOWN_SECONDS="60")
    guest = await service.guest()
    await guest.image()

    details = refusal(await guest.generate(), "COOLDOWN")
    assert 50 <= details["retry_after"] <= 60
    cooldown = (await quota(guest))["cooldown"]
    assert cooldown["active"]
    assert 50 < cooldown["remaining_seconds"] < 60
    assert (await guest.used()) == 1
    await (await service.guest()).image()


async def test_a_cooldown_that_has_passed_lets_the_next_one_through(open_service: OpenService) -> None:
    service = await open_service(TRIAL_COOLDOWN_SECONDS="0.01")
    guest = await service.guest()
    await guest.image()
    await guest.image()
    assert await guest.used() == 2


@pytest.mark.parametrize(
    ("reason", "settings"),
    [
        ("pool", {"TRIAL_GLOBAL_QUOTA": "1", "TRIAL_GUEST_SHARE": "1"}),
        ("guest_share", {"TRIAL_GLOBAL_QUOTA": "10", "TRIAL_GUEST_SHARE": "0.1"}),
        ("mode", {"TRIAL_BASIC_1K_LIMIT": "1"}),
    ],
)
async def test_what_is_spent_is_refused_with_its_reason_and_the_numbers(
    open_service: OpenService, reason: str, settings: dict[str, str]
) -> None:
    service = await open_service(**settings)
    guest = await service.guest()
    await guest.image()

    details = refusal(await guest.generate(), "QUOTA_EXCEEDED")

    assert details.pop("reason") == reason
    seconds = (next_utc_day(now_ms()) - now_ms()) / 1000
    assert abs(details.pop("retry_after") - seconds) < 60
    assert details == await quota(guest)
    assert details["global"]["used"] == 1


async def test_two_guests_of_one_address_have_one_share(open_service: OpenService) -> None:
    service = await open_service(TRIAL_GLOBAL_QUOTA="10", TRIAL_GUEST_SHARE="0.2")
    first, second = await service.guest(), await service.guest()
    await first.image()
    await second.image()

    for guest in (first, second):
        assert refusal(await guest.generate(), "QUOTA_EXCEEDED")["reason"] == "guest_share"
        assert (await quota(guest))["guest_share"] == {"used": 2, "limit": 2, "remaining": 0}


async def test_guests_of_another_address_have_a_share_of_their_own(open_service: OpenService) -> None:
    service = await open_service(
        TRIAL_GLOBAL_QUOTA="10", TRIAL_GUEST_SHARE="0.1", TRUSTED_PROXIES="127.0.0.1"
    )  # fmt: skip
    guest = await service.guest()
    await guest.image()
    assert (await guest.generate()).status_code == 429

    guest.client.headers["X-Forwarded-For"] = "203.0.113.9"
    await guest.image()


async def test_an_address_in_a_header_that_no_proxy_vouches_for_changes_nothing(open_service: OpenService) -> None:
    service = await open_service(TRIAL_GLOBAL_QUOTA="10", TRIAL_GUEST_SHARE="0.1")
    guest = await service.guest()
    await guest.image()

    guest.client.headers["X-Forwarded-For"] = "203.0.113.9"
    assert refusal(await guest.generate(), "QUOTA_EXCEEDED")["reason"] == "guest_share"


async def test_limits_and_costs_come_from_the_environment(open_service: OpenService) -> None:
    service = await open_service(
        TRIAL_GLOBAL_QUOTA="90", TRIAL_QUOTA_MODE="auto", TRIAL_SEARCH_COST="3", TRIAL_TEXT_LIMIT="8"
    )
    body = await quota(await service.guest())

    assert body["global"] == {"used": 0, "limit": 90, "remaining": 90}
    assert {key: mode["limit"] for key, mode in body["modes"].items()} == {
        "basic_1k": 54, "basic_4k": 6, "chat": 36, "batch_1k": 27, "batch_4k": 3, "search": 9, "blend": 9, "text": 8,
    }  # fmt: skip
    assert body["modes"]["search"]["cost"] == 3


async def test_an_own_key_is_not_metered_and_knows_no_cooldown_and_no_empty_pool(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    service = await open_service(
        GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, TRIAL_GLOBAL_QUOTA="0",
        TRIAL_COOLDOWN_SECONDS="60",
    )  # fmt: skip
    guest = await service.guest()
    for _ in range(2):
        response = await guest.client.post("/api/generate/basic", json={"prompt": "a lighthouse"}, headers=OWN_KEY)
        assert response.status_code == 200, response.text
    assert {call["headers"]["x-goog-api-key"] for call in gemini.requests()} == set(OWN_KEY.values())

    body = await quota(guest, **OWN_KEY)
    assert (body["is_trial_mode"], body["global"]["used"], body["cooldown"]["active"]) == (False, 0, False)
    assert (await quota(guest))["is_trial_mode"] is True


class TestCheck:
    async def test_says_yes_and_takes_nothing(self, service: RunningService) -> None:
        guest = await service.guest()
        for _ in range(3):
            body = await check(guest, "basic", resolution="4K", count=3)
            assert body == {"can_generate": True, "reason": None, "quota_info": body["quota_info"]}
        assert await guest.used() == 0
        await guest.image()

    async def test_answers_with_the_numbers_of_the_quota(self, service: RunningService) -> None:
        guest = await service.guest()
        assert (await check(guest, "basic"))["quota_info"] == await quota(guest)

    @pytest.mark.parametrize(
        ("mode", "fields", "reason"),
        [
            ("basic", {"resolution": "4K", "count": 4}, "pool"),
            ("batch", {"resolution": "1K", "count": 8}, "guest_share"),
            ("batch", {"resolution": "4K", "count": 2}, "mode"),
            ("style", {"count": 2}, "mode"),
            ("edit", {"count": 3}, "mode"),
            ("text", {"count": 5}, "mode"),
        ],
    )
    async def test_says_no_with_the_reason(
        self, open_service: OpenService, mode: str, fields: dict[str, Any], reason: str
    ) -> None:
        service = await open_service(
            TRIAL_GLOBAL_QUOTA="10", TRIAL_GUEST_SHARE="0.7", TRIAL_BATCH_4K_LIMIT="1", TRIAL_BLEND_LIMIT="1",
            TRIAL_CHAT_LIMIT="2", TRIAL_TEXT_LIMIT="4",
        )  # fmt: skip
        guest = await service.guest()
        body = await check(guest, mode, **fields)

        assert (body["can_generate"], body["reason"]) == (False, reason)
        assert await guest.used() == 0

    async def test_says_no_during_the_cooldown(self, open_service: OpenService) -> None:
        service = await open_service(TRIAL_COOLDOWN_SECONDS="60")
        guest = await service.guest()
        await guest.image()
        assert (await check(guest, "basic"))["reason"] == "cooldown"

    async def test_says_yes_to_an_own_key_whatever_is_spent(self, open_service: OpenService) -> None:
        service = await open_service(TRIAL_GLOBAL_QUOTA="0")
        guest = await service.guest()
        assert (await check(guest, "basic"))["reason"] == "pool"
        body = await check(guest, "basic", OWN_KEY)
        assert (body["can_generate"], body["quota_info"]["is_trial_mode"]) == (True, False)

    async def test_agrees_with_what_then_happens(self, open_service: OpenService) -> None:
        service = await open_service(TRIAL_GLOBAL_QUOTA="2", TRIAL_GUEST_SHARE="1")
        guest = await service.guest()
        for _ in range(2):
            assert (await check(guest, "basic"))["can_generate"]
            await guest.image()
        assert not (await check(guest, "basic"))["can_generate"]
        assert (await guest.generate()).status_code == 429

    @pytest.mark.parametrize(
        "body", [{}, {"mode": "painting"}, {"mode": "basic", "count": 0}, {"mode": "basic", "x": 1}]
    )
    async def test_refuses_what_it_does_not_know(self, service: RunningService, body: dict[str, Any]) -> None:
        response = await (await service.guest()).client.post("/api/quota/check", json=body)
        assert response.status_code == 422
        assert response.json()["error"]["code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/quota"), ("POST", "/api/quota/check")])
async def test_the_quota_is_for_those_who_signed_in(service: RunningService, method: str, path: str) -> None:
    response = await service.client.request(method, path, json={"mode": "basic"})
    assert response.status_code == 401
