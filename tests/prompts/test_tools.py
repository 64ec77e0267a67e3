"""The prompt tools over HTTP: what the text model is asked, what its answers become, what a call costs."""

from typing import Any

import httpx
import orjson
import pytest

from benchmarks.gemini_standin import GeminiStandin
from benchmarks.standin_behaviour import StepFields
from tests.conftest import OPERATOR_KEY, OpenService
from tests.providers.upstream import override_catalog
from tests.references import pictures
from tests.support.answers import error_of, fields_of
from tests.support.people import set_up_admin
from tests.support.service import Guest, RunningService

OWN_KEY = "AIzaKeyOfACaller00000000000000000000Zq7W"
DRAFT = {"title": "Plum", "prompt": "a plum on a plate", "tags": ["fruit", "still life"]}
DRAFTS = orjson.dumps({"prompts": [DRAFT | {"title": f"Plum {n}"} for n in range(4)]}).decode()
WRITTEN = '{"prompt": "a plum on a cracked plate, low winter sun"}'

TOOLS: dict[str, tuple[dict[str, Any], str]] = {
    "generate": ({"category": "food", "style": "noir"}, DRAFTS),
    "enhance": ({"prompt": "a plum"}, WRITTEN),
    "variations": ({"prompt": "a plum"}, DRAFTS),
    "describe": ({"image": pictures.text_of(pictures.picture())}, WRITTEN),
}
every_tool = pytest.mark.parametrize("tool", TOOLS)


async def call(guest: Guest, tool: str, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return await guest.client.post(f"/api/prompts/{tool}", json=TOOLS[tool][0] | fields, headers=headers)


def asked(gemini: GeminiStandin) -> Any:
    """The body of the only call."""
    (found,) = gemini.text_requests()
    return found["body"]


async def text_calls(guest: Guest) -> int:
    """Of the prompt tools, as the quota counts them."""
    used: int = (await guest.client.get("/api/quota")).json()["modes"]["text"]["used"]
    return used


@every_tool
async def test_what_the_model_writes_is_the_answer_and_costs_a_call_and_no_points(
    gemini_service: RunningService, gemini: GeminiStandin, tool: str
) -> None:
    gemini.configure_text(text=TOOLS[tool][1])
    guest = await gemini_service.guest()
    response = await call(guest, tool, count=3) if tool in {"generate", "variations"} else await call(guest, tool)
    assert response.status_code == 200, response.text
    if tool in {"generate", "variations"}:
        assert response.json() == {"prompts": [DRAFT | {"title": f"Plum {n}"} for n in range(3)]}
    else:
        assert response.json() == orjson.loads(WRITTEN)
    assert gemini.text_requests()[0]["headers"]["x-goog-api-key"] == OPERATOR_KEY
    assert (await text_calls(guest), await guest.used()) == (1, 0)
    assert gemini.requests() == []


async def test_what_is_asked_for_stands_in_the_question(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    guest = await gemini_service.guest()
    questions: list[tuple[str, dict[str, Any], list[str], dict[str, Any]]] = [
        ("generate", {"count": 7, "lang": "zh"}, ["7 prompts", "Simplified Chinese"], TOOLS["generate"][0]),
        ("enhance", {}, ["language of the prompt"], {"prompt": "a plum"}),
        ("enhance", {"lang": "en"}, ["in English"], {"prompt": "a plum"}),
        ("variations", {"count": 2, "kind": "mood"}, ["2 variations", "another mood"], {"prompt": "a plum"}),
    ]  # fmt: skip
    for tool, fields, words, given in questions:
        gemini.clear_requests()
        gemini.configure_text(text=TOOLS[tool][1])
        assert (await call(guest, tool, **fields)).status_code == 200
        body = asked(gemini)
        instruction = body["systemInstruction"]["parts"][0]["text"]
        assert all(word in instruction for word in words), instruction
        assert orjson.loads(body["contents"][0]["parts"][0]["text"]) == given
        assert body["generationConfig"]["responseMimeType"] == "application/json"


@pytest.mark.parametrize("as_form", [True, False])
async def test_an_image_is_sent_as_it_came_and_kept_nowhere(
    gemini_service: RunningService, gemini: GeminiStandin, as_form: bool
) -> None:
    gemini.configure_text(text=WRITTEN)
    guest, picture = await gemini_service.guest(), pictures.picture()
    headers = {"Accept-Language": "zh"}
    if as_form:
        files = {"image": ("one.png", picture)}
        response = await guest.client.post("/api/prompts/describe", files=files, headers=headers)
    else:
        body = {"lang": None, "image": f"data:image/png;base64,{pictures.text_of(picture)}"}
        response = await guest.client.post("/api/prompts/describe", json=body, headers=headers)
    assert response.status_code == 200, response.text
    _, image = asked(gemini)["contents"][0]["parts"]
    assert image["inlineData"] == {"mimeType": "image/png", "data": pictures.text_of(picture)}
    assert "Simplified Chinese" in asked(gemini)["systemInstruction"]["parts"][0]["text"]
    assert [path for path in (gemini_service.data_dir / "spool").iterdir() if path.is_file()] == []


BAD_IMAGES: list[tuple[Any, int, str]] = [
    ("not base64!", 422, "bad_base64"),
    (pictures.text_of(b"this is no image"), 400, "image_format"),
    (pictures.text_of(pictures.picture()[:-20]), 400, "image_truncated"),
    ("", 400, "image_empty"),
    (5, 422, "wrong_type"),
    ([pictures.text_of(pictures.picture())], 422, "wrong_type"),
]


async def test_an_image_that_is_none_is_named_and_counts_nothing(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await gemini_service.guest()
    for image, status, reason in BAD_IMAGES:
        response = await guest.client.post("/api/prompts/describe", json={"image": image})
        error = error_of(response, status, {400: "UNSUPPORTED_IMAGE", 422: "VALIDATION_ERROR"}[status])
        assert [(field["field"], field["reason"]) for field in error["details"]["fields"]] == [("image", reason)]
    assert gemini.text_requests() == []
    assert await text_calls(guest) == 0


FAILURES: list[tuple[StepFields, int, str, int]] = [
    ({"text": "Of course! Here are some ideas."}, 502, "UNUSABLE_ANSWER", 2),
    ({"mode": "half_text"}, 502, "UNUSABLE_ANSWER", 2),
    ({"text": '{"prompts": [], "prompt": ""}'}, 502, "UNUSABLE_ANSWER", 2),
    ({"mode": "error", "status": 503}, 503, "PROVIDER_OVERLOADED", 1),
    ({"mode": "error", "status": 429}, 503, "PROVIDER_RATE_LIMITED", 1),
    ({"mode": "reset"}, 502, "PROVIDER_CONNECTION", 1),
    ({"mode": "prompt_blocked"}, 400, "CONTENT_BLOCKED", 1),
]


@every_tool
async def test_a_call_that_fails_says_so_and_is_given_back(
    open_service: OpenService, gemini: GeminiStandin, tool: str, tmp_path: Any
) -> None:
    """Nothing is ever made up in the model's place."""
    override_catalog(tmp_path)
    service = await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url)
    guest = await service.guest()
    for step, status, code, calls in FAILURES:
        gemini.clear_requests()
        gemini.configure_text(**step)
        error = error_of(await call(guest, tool), status, code)
        assert "ideas" not in str(error)
        assert len(gemini.text_requests()) == calls
        assert await text_calls(guest) == 0


async def test_json_in_a_fence_is_taken(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    guest = await gemini_service.guest()
    for tool, (_, answer) in TOOLS.items():
        gemini.configure_text(mode="fenced_text", text=answer)
        assert (await call(guest, tool)).status_code == 200


async def test_without_a_google_key_nothing_is_written_and_an_own_key_is_not_counted(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    """The demo draws, and does not write."""
    service = await open_service(GOOGLE_GEMINI_BASE_URL=gemini.url)
    guest = await service.guest()
    for tool, (_, answer) in TOOLS.items():
        hint = error_of(await call(guest, tool), 400, "API_KEY_REQUIRED")["details"]["hint"]
        assert "X-API-Key" in hint
        assert "GOOGLE_API_KEY" in hint
        gemini.configure_text(text=answer)
        assert (await call(guest, tool, headers={"X-API-Key": OWN_KEY})).status_code == 200
    assert [asked["headers"]["x-goog-api-key"] for asked in gemini.text_requests()] == [OWN_KEY] * len(TOOLS)
    assert await text_calls(guest) == 0


async def test_the_days_calls_have_an_end_but_for_admins(open_service: OpenService, gemini: GeminiStandin) -> None:
    gemini.configure_text(text=WRITTEN)
    service = await open_service(
        GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, TRIAL_TEXT_LIMIT="2", TRIAL_GLOBAL_QUOTA="0",
    )  # fmt: skip
    guest, admin = await service.guest(), await set_up_admin(service)
    for _ in range(2):
        assert (await call(guest, "enhance")).status_code == 200
        assert (await call(admin, "enhance")).status_code == 200
    error = error_of(await call(guest, "enhance"), 429, "QUOTA_EXCEEDED")
    assert error["details"]["reason"] == "mode"
    assert (await call(admin, "enhance")).status_code == 200
    assert len(gemini.text_requests()) == 5


async def test_the_pause_between_images_is_not_about_text(open_service: OpenService, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 64))
    gemini.script_text({"text": WRITTEN, "times": 2}, {"text": '{"category": "safe"}'})
    service = await open_service(
        GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, TRIAL_COOLDOWN_SECONDS="3600"
    )
    guest = await service.guest()
    for _ in range(2):
        assert (await call(guest, "enhance")).status_code == 200
    assert (await guest.generate("a plum")).status_code == 200
    gemini.configure_text(text=WRITTEN)
    assert (await call(guest, "enhance")).status_code == 200
    checked = await guest.client.post("/api/quota/check", json={"mode": "text"})
    assert checked.json()["can_generate"] is True
    error_of(await guest.generate("a plum"), 429, "COOLDOWN")


async def test_banned_words_reach_no_model(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    guest = await gemini_service.guest()
    tries: list[tuple[str, dict[str, Any]]] = [
        ("generate", {"category": "nsfw"}), ("generate", {"style": "n s f w"}), ("enhance", {"prompt": "nsfw"}),
        ("variations", {"prompt": "nsfw"}),
    ]  # fmt: skip
    for tool, fields in tries:
        assert error_of(await call(guest, tool, **fields), 400, "CONTENT_BLOCKED")["details"] == {"reason": "keyword"}
    assert gemini.text_requests() == []
    assert await text_calls(guest) == 0
    entries = [orjson.loads(path.read_bytes()) for path in gemini_service.stored("logs/content_moderation/*/*/*.json")]
    assert {(entry["mode"], entry["decision"]) for entry in entries} == {("text", "blocked")}


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("generate", {"count": 21}, "count"), ("generate", {"count": 0}, "count"), ("generate", {"lang": "fr"}, "lang"),
    ("generate", {"category": ""}, "category"), ("enhance", {"prompt": "a" * 4001}, "prompt"),
    ("variations", {"count": 11}, "count"), ("variations", {"kind": "size"}, "kind"), ("describe", {"n": 1}, "n"),
    ("describe", {"lang": 5}, "lang"),
]  # fmt: skip


async def test_a_body_that_is_wrong_is_named_and_nobodys_is_refused(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await gemini_service.guest()
    for tool, fields, field in WRONG:
        assert field in fields_of(await call(guest, tool, **fields)), fields
    for tool, (body, _) in TOOLS.items():
        nobodys = await gemini_service.client.post(f"/api/prompts/{tool}", json=body, headers={"X-API-Key": OWN_KEY})
        error_of(nobodys, 401, "UNAUTHORIZED")
    assert gemini.text_requests() == []
