"""What Gemini's failures mean to the caller; after each, nothing is charged, kept or given away."""

import base64
import random
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.gemini_standin import GeminiStandin
from benchmarks.standin_behaviour import StepFields
from tests.conftest import OPERATOR_KEY, OpenService
from tests.providers.upstream import (
    answer_with,
    error_of,
    file_instead_of,
    image_calls,
    image_rows,
    kept_files,
    override_catalog,
    upstream_saying,
)
from tests.support.service import Guest, RunningService

# No form that a redaction of key patterns would know.
ODD_KEY = "operator.key+of/no=known~form-0123456789"
UPSTREAM_WORDS = "standin-secret-words-of-the-upstream"
BLOCKED = (400, "CONTENT_BLOCKED", "safety_blocked")
NO_IMAGE = (502, "NO_IMAGE", "no_image")
REJECTED = (400, "PROVIDER_REJECTED", "provider_rejected")
BAD_KEY = (400, "INVALID_API_KEY", "invalid_key")
UNAVAILABLE = (503, "PROVIDER_UNAVAILABLE", "unavailable")
TIMEOUT = (504, "PROVIDER_TIMEOUT", "timeout")
CONNECTION = (502, "PROVIDER_CONNECTION", "connection")

BLOCKING = ["SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT", "RECITATION",
            "IMAGE_RECITATION", "BLOCKLIST", "SPII", "MODEL_ARMOR"]  # fmt: skip
WITHOUT_IMAGE = ["MAX_TOKENS", "OTHER", "NO_IMAGE", "IMAGE_OTHER", "LANGUAGE", "STOP", "SOMETHING_NEW"]
BLOCK_REASONS = ["SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY"]


@pytest.fixture
async def one_try_service(open_service: OpenService, gemini: GeminiStandin, tmp_path: Path) -> RunningService:
    """Fails at once where it would try again, so that a test need not wait for the pauses."""
    override_catalog(tmp_path)
    return await open_service(GOOGLE_API_KEY=ODD_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url)


async def fails(service: RunningService, guest: Guest, wanted: tuple[int, str, str], **fields: Any) -> dict[str, Any]:
    """The error's details; a generation fails as `wanted` and leaves everything as it was."""
    used = await guest.used()
    response = await guest.generate(**fields)
    error = error_of(response)
    assert (response.status_code, error["code"], error["type"]) == wanted, response.text
    assert "data" not in response.json() or response.json()["data"] is None
    if wanted[0] == 503:
        assert int(response.headers["retry-after"]) > 0
    assert await guest.used() == used
    assert kept_files(service) == []
    assert image_rows(service) == 0
    for secret in (ODD_KEY, OPERATOR_KEY, UPSTREAM_WORDS, "http://", "https://", "Traceback"):
        assert secret not in response.text
    details: dict[str, Any] = error["details"]
    return details


async def test_every_blocking_finish_reason_is_a_block_by_the_provider(
    one_try_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await one_try_service.guest()
    for reason in BLOCKING:
        gemini.configure(mode="safety", finish_reason=reason)
        assert await fails(one_try_service, guest, BLOCKED) == {"reason": "provider", "category": reason}


async def test_every_block_of_the_prompt_is_a_block_by_the_provider(
    one_try_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await one_try_service.guest()
    for reason in BLOCK_REASONS:
        gemini.configure(mode="prompt_blocked", block_reason=reason)
        assert await fails(one_try_service, guest, BLOCKED) == {"reason": "provider", "category": reason}


async def test_other_finish_reasons_without_an_image_are_no_image(
    one_try_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await one_try_service.guest()
    for reason in WITHOUT_IMAGE:
        gemini.configure(mode="safety", finish_reason=reason)
        assert (await fails(one_try_service, guest, NO_IMAGE))["finish_reason"] == reason


async def test_what_the_model_said_instead_of_an_image_reaches_the_caller(
    one_try_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure(mode="no_image", text="I would rather talk about it.")
    details = await fails(one_try_service, await one_try_service.guest(), NO_IMAGE)
    assert details == {"text_response": "I would rather talk about it.", "finish_reason": "STOP"}


HTTP_ERRORS: list[tuple[StepFields, tuple[int, str, str]]] = [
    ({"status": 400, "message": "API key not valid.", "reason": "API_KEY_INVALID"}, BAD_KEY),
    ({"status": 401}, BAD_KEY),
    ({"status": 403}, BAD_KEY),
    ({"status": 400}, REJECTED),
    ({"status": 404}, REJECTED),
    ({"status": 413}, REJECTED),
    ({"status": 408}, TIMEOUT),
    ({"status": 429, "retry_after": "7"}, (503, "PROVIDER_RATE_LIMITED", "rate_limited")),
    ({"status": 500, "message": UPSTREAM_WORDS}, UNAVAILABLE),
    ({"status": 501}, UNAVAILABLE),
    ({"status": 502}, UNAVAILABLE),
    ({"status": 503, "message": UPSTREAM_WORDS}, (503, "PROVIDER_OVERLOADED", "overloaded")),
    ({"status": 504}, TIMEOUT),
    ({"status": 302}, UNAVAILABLE),
]


async def test_each_http_error_has_its_meaning(one_try_service: RunningService, gemini: GeminiStandin) -> None:
    guest = await one_try_service.guest()
    for step, wanted in HTTP_ERRORS:
        gemini.script({**step, "mode": "error"})
        await fails(one_try_service, guest, wanted)
    assert len(image_calls(gemini)) == len(HTTP_ERRORS)


async def test_a_key_that_gemini_does_not_know_is_an_invalid_key(
    one_try_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.refuse_keys([ODD_KEY])
    await fails(one_try_service, await one_try_service.guest(), BAD_KEY)


async def test_the_reason_of_a_refusal_is_short_and_clean_although_the_upstream_echoes_the_key(
    one_try_service: RunningService, gemini: GeminiStandin
) -> None:
    message = (
        f"Invalid  argument\nin the call with {{key}} or {OPERATOR_KEY}, see https://ai.google.dev/x?key={{key}} "
        + "and so on" * 100
    )
    gemini.configure(mode="error", status=400, message=message)
    details = await fails(one_try_service, await one_try_service.guest(), REJECTED)
    assert details["reason"].startswith("Invalid argument in the call with … or …, see …")
    assert len(details["reason"]) <= 300


async def test_an_own_key_is_never_echoed_either(one_try_service: RunningService, gemini: GeminiStandin) -> None:
    own = "own-key.of_a-caller+0123456789"
    client = one_try_service.with_headers(**{"X-API-Key": own})
    for status in (400, 403, 429, 500, 503):
        gemini.configure(mode="error", status=status, message="no such key: {key}")
        response = await client.post("/api/generate/basic", json={"prompt": "a"})
        assert response.status_code >= 400
        assert own not in response.text


async def test_a_reason_that_arrives_in_pieces_is_read_whole(open_service: OpenService) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    body = orjson.dumps({"error": {"code": 400, "message": "API key not valid.", "details": details}})
    async with upstream_saying(400, [body[:20], body[20:60], body[60:]], pause_seconds=0.05) as url:
        service = await open_service(GOOGLE_API_KEY=ODD_KEY, GOOGLE_GEMINI_BASE_URL=url)
        await fails(service, await service.guest(), BAD_KEY)


BROKEN: list[tuple[StepFields, tuple[int, str, str]]] = [
    ({"mode": "reset"}, CONNECTION),
    ({"mode": "half", "image_bytes": 900_000}, CONNECTION),
    ({"mode": "html"}, UNAVAILABLE),
    ({"mode": "huge"}, UNAVAILABLE),
    ({"mode": "huge", "formats": ["gzip"]}, UNAVAILABLE),
    ({"mode": "huge", "formats": ["chunked"]}, UNAVAILABLE),
    ({"mode": "truncated_base64", "image_bytes": 900_000}, UNAVAILABLE),
    ({"mode": "broken_json", "image_bytes": 900_000}, UNAVAILABLE),
    ({"mode": "not_image"}, UNAVAILABLE),
]


@pytest.mark.parametrize(("step", "wanted"), BROKEN, ids=lambda value: str(value)[:40])
async def test_an_answer_that_is_none_leaves_nothing_behind(
    one_try_service: RunningService, gemini: GeminiStandin, step: StepFields, wanted: tuple[int, str, str]
) -> None:
    gemini.configure(**step)
    await fails(one_try_service, await one_try_service.guest(), wanted)


async def test_an_upstream_that_nobody_listens_at_is_a_connection_error(
    open_service: OpenService, tmp_path: Path
) -> None:
    override_catalog(tmp_path)
    service = await open_service(GOOGLE_API_KEY=ODD_KEY, GOOGLE_GEMINI_BASE_URL="http://127.0.0.1:9")
    await fails(service, await service.guest(), CONNECTION)


async def test_a_redirect_is_not_followed(one_try_service: RunningService, gemini: GeminiStandin) -> None:
    gemini.configure(mode="redirect", location=f"{gemini.url}/v1beta/models/gemini-3-pro-image")
    await fails(one_try_service, await one_try_service.guest(), UNAVAILABLE)
    assert [call["method"] for call in gemini.requests()] == ["POST"]


SHAPES: list[Any] = [
    [], "text", 5, None, {"candidates": "x"}, {"candidates": [5]}, {"candidates": [{"content": "x"}]},
    answer_with({"inlineData": "x"}), answer_with({"inlineData": {"mimeType": "image/png"}}),
    answer_with({"inlineData": {"data": 5}}), answer_with({"inlineData": {"data": None}}),
    answer_with({"text": 5}), {"candidates": [{"finishReason": []}]}, {"promptFeedback": "x"},
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
async def test_json_of_another_shape_is_an_unavailable_provider_and_no_defect_of_ours(
    open_service: OpenService, shape: Any
) -> None:
    async with upstream_saying(200, [orjson.dumps(shape)]) as url:
        service = await open_service(GOOGLE_API_KEY=ODD_KEY, GOOGLE_GEMINI_BASE_URL=url)
        await fails(service, await service.guest(), UNAVAILABLE)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", random.Random(3).randbytes(5000), b"GIF89a" + bytes(50)])
async def test_bytes_that_are_no_image_of_a_kept_kind_are_refused(open_service: OpenService, data: bytes) -> None:
    part = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(data).decode()}}
    async with upstream_saying(200, [orjson.dumps(answer_with(part))]) as url:
        service = await open_service(GOOGLE_API_KEY=ODD_KEY, GOOGLE_GEMINI_BASE_URL=url)
        await fails(service, await service.guest(), UNAVAILABLE)


async def test_an_upstream_that_hangs_is_a_timeout_after_request_timeout_seconds(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    gemini.configure(mode="hang")
    service = await open_service(GOOGLE_API_KEY=ODD_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, REQUEST_TIMEOUT_SECONDS="2")
    guest = await service.guest()
    started = time.monotonic()
    await fails(service, guest, TIMEOUT)
    assert 2 <= time.monotonic() - started < 10
    await gemini.until(lambda stats: stats["dropped"] == 1)


async def test_an_answer_that_drips_past_the_time_limit_leaves_no_file(
    open_service: OpenService, gemini: GeminiStandin
) -> None:
    gemini.configure(mode="drip", drip_seconds=20, image_bytes=4_000_000)
    service = await open_service(GOOGLE_API_KEY=ODD_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, REQUEST_TIMEOUT_SECONDS="2")
    await fails(service, await service.guest(), TIMEOUT)


async def test_a_disk_that_takes_no_image_is_unavailable_storage(
    one_try_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await one_try_service.guest()
    with file_instead_of(one_try_service.data_dir / "spool"):
        response = await guest.generate()
    assert (response.status_code, error_of(response)["code"]) == (503, "STORAGE_UNAVAILABLE")
    assert str(one_try_service.data_dir) not in response.text
    assert await guest.used() == 0
    assert kept_files(one_try_service) == []
