"""Layer 2: the text model's word over HTTP, before a provider is asked; its cache, its failures, its audit."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest
from redis import Redis

from benchmarks.gemini_standin import GeminiStandin
from benchmarks.standin_behaviour import StepFields
from tests.chat.talking import begin
from tests.conftest import OPERATOR_KEY, OpenService
from tests.providers.upstream import image_calls
from tests.references import pictures
from tests.references.asking import SEARCH, blend
from tests.support.answers import error_of, fields_of
from tests.support.databases import databases
from tests.support.people import set_up_admin
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually
from tests.tasks.workers import submit_batch, until, until_settled, working

OWN_KEY = "AIzaKeyOfACaller00000000000000000000Zq7W"
PROMPT = "a street after the fight"
SAFE, VIOLENCE = '{"category": "safe"}', '{"category": "violence"}'


@pytest.fixture
def gemini(gemini: GeminiStandin) -> GeminiStandin:
    gemini.configure(pixels=(64, 64))
    return gemini


def entries(service: RunningService) -> list[dict[str, Any]]:
    """Of the audit in storage, in the order of their checks."""
    found = [orjson.loads(path.read_bytes()) for path in service.stored("logs/content_moderation/*/*/*.json")]
    return sorted(found, key=lambda entry: entry["check_id"])


async def audited(admin: Guest, count: int, **query: Any) -> list[dict[str, Any]]:
    """What admins see once there are so many."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        response = await admin.client.get("/api/admin/moderation", params=query)
        assert response.status_code == 200, response.text
        found[:] = response.json()["items"]
        assert response.json()["total"] == len(found)
        return len(found) == count

    assert await eventually(there), found
    return found


async def test_a_blocked_prompt_reaches_no_provider_costs_nothing_and_is_audited(
    gemini_service: RunningService, gemini: GeminiStandin, redis_url: str
) -> None:
    gemini.configure_text(text=VIOLENCE)
    guest, admin = await gemini_service.guest(), await set_up_admin(gemini_service)
    for _ in range(2):
        error = error_of(await guest.generate(PROMPT), 400, "CONTENT_BLOCKED")
        assert error["type"] == "safety_blocked"
        assert error["details"] == {"reason": "ai", "category": "violence"}
    assert image_calls(gemini) == []
    assert len(gemini.text_requests()) == 1
    assert await guest.used() == 0
    assert (await guest.history())["total"] == 0
    first, second = entries(gemini_service)
    for entry in (first, second):
        assert [(layer["layer"], layer["decision"], layer["category"]) for layer in entry["layers"]] == [
            ("keyword", "passed", None),
            ("ai", "blocked", "violence"),
        ]
        assert (entry["decision"], entry["user_id"], entry["mode"]) == ("blocked", guest.id, "basic")
        assert "prompt" not in entry
    with Redis.from_url(redis_url) as redis:
        (key,) = redis.keys("moderation:*")
        assert key.decode() == f"moderation:{first['prompt_sha256']}"
        assert 86_000 < redis.ttl(key) <= 86_400
    newest, oldest = await audited(admin, 2, decision="blocked", layer="ai")
    assert (newest["check_id"], oldest["check_id"]) == (second["check_id"], first["check_id"])
    assert newest | {"timestamp": newest["checked_at"]} | {"prompt": None} == newest | second | {
        "prompt": None, "timestamp": second["timestamp"]}  # fmt: skip
    metrics = (await gemini_service.client.get("/metrics")).text
    assert 'moderation_verdicts_total{decision="blocked"} 2.0' in metrics


async def test_a_safe_prompt_is_asked_about_once_whoever_sends_it(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    a, b = await gemini_service.guest(), await gemini_service.guest()
    for guest in (a, b, a):
        await guest.image(PROMPT)
    own = {"X-API-Key": OWN_KEY}
    assert (await a.client.post("/api/generate/basic", json={"prompt": PROMPT}, headers=own)).status_code == 200
    anonymous = gemini_service.with_headers(**own)
    assert (await anonymous.post("/api/generate/basic", json={"prompt": PROMPT})).status_code == 200
    (call,) = gemini.text_requests()
    # Callers' own keys are not spent on it.
    assert call["headers"]["x-goog-api-key"] == OPERATOR_KEY
    assert orjson.loads(call["body"]["contents"][0]["parts"][0]["text"]) == PROMPT
    assert {entry["threshold"] for entry in call["body"]["safetySettings"]} == {"BLOCK_NONE"}
    assert [entry["decision"] for entry in entries(gemini_service)] == ["passed"] * 5


async def test_those_who_come_at_once_share_one_answer(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    gemini.configure_text(text=SAFE, delay_seconds=0.3)
    guest = await gemini_service.guest()
    answers = await asyncio.gather(*(guest.generate(PROMPT) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len(gemini.text_requests()) == 1


AWAY: dict[str, StepFields] = {
    "an error": {"mode": "error", "status": 500},
    "a bad key": {"mode": "error", "status": 403},
    "no JSON": {"text": "I would say that this is safe."},
    "half a JSON": {"text": '{"category": "sa'},
    "a category that there is none of": {"text": '{"category": "boring"}'},
    "a filter that says nothing of harm": {"mode": "safety", "finish_reason": "RECITATION"},
}


async def test_a_model_that_is_away_lets_the_prompt_pass_and_is_noted(
    gemini_service: RunningService, gemini: GeminiStandin, redis_url: str
) -> None:
    guest, admin = await gemini_service.guest(), await set_up_admin(gemini_service)
    for step in AWAY.values():
        gemini.configure_text(**step)
        await guest.image(PROMPT)
    assert len(image_calls(gemini)) == len(AWAY)
    found = entries(gemini_service)
    assert [entry["layers"][1]["decision"] for entry in found] == ["undecided"] * len(AWAY)
    assert [entry["decision"] for entry in found] == ["undecided"] * len(AWAY)
    with Redis.from_url(redis_url) as redis:
        assert redis.keys("moderation:*") == []
    await audited(admin, len(AWAY), decision="undecided")
    metrics = (await gemini_service.client.get("/metrics")).text
    assert f'moderation_verdicts_total{{decision="undecided"}} {len(AWAY)}.0' in metrics
    # It is asked again when it is back.
    gemini.configure_text(text=VIOLENCE)
    error_of(await guest.generate(PROMPT), 400, "CONTENT_BLOCKED")


async def test_a_model_that_hangs_does_not_hold_images_up(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure_text(mode="hang")
    guest = await gemini_service.guest()
    async with asyncio.timeout(15):
        await guest.image(PROMPT)
    assert entries(gemini_service)[0]["layers"][1]["decision"] == "undecided"
    assert 4_900 < entries(gemini_service)[0]["layers"][1]["duration_ms"] < 10_000


async def test_who_hangs_up_while_the_model_looks_gets_the_points_back(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure_text(text=SAFE, delay_seconds=0.5)
    guest = await gemini_service.guest()
    call = asyncio.create_task(guest.generate(PROMPT))

    async def asked() -> bool:
        return gemini.text_stats()["waiting"] == 1

    async def given_back() -> bool:
        return gemini.text_stats()["waiting"] == 0 and await guest.used() == 0

    assert await eventually(asked)
    assert await guest.used() == 1
    call.cancel()
    assert await eventually(given_back)
    assert gemini.requests() == []
    assert (await guest.history())["total"] == 0


async def test_what_the_models_own_filter_will_not_read_is_blocked(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure_text(mode="prompt_blocked")
    guest = await gemini_service.guest()
    error = error_of(await guest.generate(PROMPT), 400, "CONTENT_BLOCKED")
    assert error["details"] == {"reason": "ai", "category": "prohibited_content"}
    assert image_calls(gemini) == []


async def test_every_way_in_is_moderated(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    gemini.configure_text(text=VIOLENCE)
    guest = await gemini_service.guest()
    anonymous = gemini_service.with_headers(**{"X-API-Key": OWN_KEY})
    answers: list[httpx.Response] = [
        await guest.generate(PROMPT),
        await guest.generate(PROMPT, provider="demo"),
        await guest.client.post(SEARCH, json={"prompt": PROMPT}),
        await blend(guest, pictures.picture(), prompt=PROMPT),
        await blend(guest, pictures.picture(), pictures.picture(), prompt=PROMPT, mode="style"),
        await anonymous.post("/api/generate/basic", json={"prompt": PROMPT}),
        await guest.client.post(f"/api/chat/sessions/{await begin(guest)}/messages", json={"message": PROMPT}),
    ]
    for answer in answers:
        assert error_of(answer, 400, "CONTENT_BLOCKED")["details"]["category"] == "violence"
    assert image_calls(gemini) == []
    assert await guest.used() == 0


async def test_the_images_of_a_task_share_an_answer_and_none_is_made_of_a_blocked_prompt(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await gemini_service.guest()
    async with working(gemini_service):
        gemini.configure_text(text=VIOLENCE)
        blocked = await until(guest, await submit_batch(guest, 3, PROMPT), "failed")
        await until_settled(guest, 0)
        assert [item["error"]["code"] for item in blocked["results"]] == ["CONTENT_BLOCKED"] * 3
        assert image_calls(gemini) == []
        gemini.configure_text(text=SAFE)
        made = await until(guest, await submit_batch(guest, 3, "another street"), "completed")
    assert made["completed"] == 3
    assert len(gemini.text_requests()) == 2
    assert await guest.used() == 3


@pytest.mark.parametrize("settings", [{"AI_MODERATION_ENABLED": "false"}, {"GOOGLE_API_KEY": ""}])
async def test_without_the_layer_nothing_is_asked(
    open_service: OpenService, gemini: GeminiStandin, settings: dict[str, str], redis_url: str
) -> None:
    service = await open_service(
        **{"GOOGLE_API_KEY": OPERATOR_KEY, "GOOGLE_GEMINI_BASE_URL": gemini.url} | settings,
    )
    gemini.configure_text(text=VIOLENCE)
    guest = await service.guest()
    await guest.image(PROMPT)
    async with working(service):
        await until(guest, await submit_batch(guest, 1, PROMPT), "completed")
    assert gemini.text_requests() == []
    assert [[layer["layer"] for layer in entry["layers"]] for entry in entries(service)] == [["keyword"]] * 2
    with Redis.from_url(redis_url) as redis:
        assert redis.keys("moderation:*") == []


async def test_a_keyword_is_found_before_the_model_is_asked(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    guest, admin = await gemini_service.guest(), await set_up_admin(gemini_service)
    error = error_of(await guest.generate("something n s f w"), 400, "CONTENT_BLOCKED")
    assert error["details"] == {"reason": "keyword"}
    assert gemini.text_requests() == []
    (found,) = await audited(admin, 1)
    assert (found["layer"], found["decision"], found["category"]) == ("keyword", "blocked", None)


async def test_admins_find_what_they_look_for(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    admin, a, b = await set_up_admin(gemini_service), await gemini_service.guest(), await gemini_service.guest()
    await a.image("one")
    await b.client.post(SEARCH, json={"prompt": "two"})
    await b.generate("something n s f w")
    gemini.configure_text(text=VIOLENCE)
    anonymous = gemini_service.with_headers(**{"X-API-Key": OWN_KEY})
    await anonymous.post("/api/generate/basic", json={"prompt": "three"})
    whole = await audited(admin, 4)
    assert [entry["checked_at"] for entry in whole] == sorted((entry["checked_at"] for entry in whole), reverse=True)
    three, keyword, two, one = whole
    questions: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
        ({"decision": "blocked"}, [three, keyword]),
        ({"decision": "blocked", "layer": "ai"}, [three]),
        ({"decision": "passed"}, [two, one]),
        ({"layer": "keyword"}, [keyword]),
        ({"user_id": a.id}, [one]),
        ({"user_id": b.id, "mode": "search"}, [two]),
        ({"user_id": "anonymous"}, [three]),
        ({"user_id": "usr_nobody"}, []),
        ({"date_from": two["checked_at"]}, [three, keyword, two]),
        ({"date_to": two["checked_at"]}, [one]),
        ({"date_from": "2000-01-01", "date_to": "2000-01-02"}, []),
    ]
    for query, expected in questions:
        assert await audited(admin, len(expected), **query) == expected, query
    page = (await admin.client.get("/api/admin/moderation", params={"limit": 1, "offset": 1})).json()
    assert (page["items"], page["total"], page["has_more"]) == ([keyword], 4, True)
    backwards = {"date_from": "2026-02-01", "date_to": "2026-01-01"}
    assert fields_of(await admin.client.get("/api/admin/moderation", params=backwards))
    assert fields_of(await admin.client.get("/api/admin/moderation", params={"decision": "maybe"}))


async def test_the_prompt_is_shown_where_prompts_are_kept(open_service: OpenService) -> None:
    service = await open_service(AUDIT_LOG_PROMPTS="true")
    admin, guest = await set_up_admin(service), await service.guest()
    await guest.image("港口")
    assert [entry["prompt"] for entry in await audited(admin, 1)] == ["港口"]


async def test_what_the_index_has_not_yet_is_written_at_the_stop(open_service: OpenService) -> None:
    service = await open_service()
    await (await service.guest()).image("a")
    await service.container.moderation.close()
    assert databases.ask(service.data_dir, "SELECT count(*) FROM moderation_checks") == [(1,)]
