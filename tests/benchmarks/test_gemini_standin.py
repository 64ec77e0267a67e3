"""The stand-in through real HTTP: what it answers, what it refuses and how it misbehaves."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from PIL import Image

from benchmarks.gemini_standin import GeminiStandin

IMAGE_MODEL = "gemini-3-pro-image"
CALL = f"/v1beta/models/{IMAGE_MODEL}:generateContent"
BODY: dict[str, Any] = {
    "contents": [{"role": "user", "parts": [{"text": "a red cube"}]}],
    "generationConfig": {"responseModalities": ["TEXT", "IMAGE"], "imageConfig": {"aspectRatio": "16:9"}},
}


@pytest.fixture
async def http(standin: GeminiStandin) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"x-goog-api-key": "good-key"}
    async with aiohttp.ClientSession(standin.url, headers=headers) as session:
        yield session


async def call(http: aiohttp.ClientSession, body: Any = BODY, path: str = CALL) -> tuple[int, Any]:
    async with http.post(path, json=body, allow_redirects=False) as response:
        return response.status, orjson.loads(await response.read())


def picture(answer: Any, part: int = 0) -> Image.Image:
    data = answer["candidates"][0]["content"]["parts"][part]["inlineData"]["data"]
    opened = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    opened.load()
    return opened


@pytest.mark.parametrize(
    ("ratio", "size", "pixels"),
    [
        ("1:1", "1K", (1024, 1024)),
        ("16:9", "1K", (1376, 768)),
        ("9:16", "2K", (1536, 2752)),
        ("1:1", "512", (512, 512)),
    ],
)
async def test_image_has_the_pixels_of_ratio_and_size(
    http: aiohttp.ClientSession, ratio: str, size: str, pixels: tuple[int, int]
) -> None:
    config = {"imageConfig": {"aspectRatio": ratio, "imageSize": size}}
    status, answer = await call(http, BODY | {"generationConfig": config})
    assert status == 200
    assert picture(answer).size == pixels
    assert answer["candidates"][0]["finishReason"] == "STOP"
    assert answer["usageMetadata"]["candidatesTokenCount"] == 1120


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg", "image/webp"])
async def test_image_has_exactly_the_bytes_asked_for(
    http: aiohttp.ClientSession, standin: GeminiStandin, mime: str
) -> None:
    standin.configure(mime=mime, image_bytes=1_760_000)
    _, answer = await call(http)
    inline = answer["candidates"][0]["content"]["parts"][0]["inlineData"]
    assert inline["mimeType"] == mime
    assert len(base64.b64decode(inline["data"])) == 1_760_000
    assert picture(answer).format == mime.removeprefix("image/").upper()


async def test_each_answer_has_its_own_signature(http: aiohttp.ClientSession) -> None:
    answers = [(await call(http))[1]["candidates"][0]["content"]["parts"][0] for _ in range(2)]
    assert answers[0]["inlineData"] == answers[1]["inlineData"]
    assert answers[0]["thoughtSignature"] != answers[1]["thoughtSignature"]


@pytest.mark.parametrize(("key", "status"), [("bad-key", 400), (None, 403)])
async def test_key_is_checked_and_only_the_header_counts(standin: GeminiStandin, key: str | None, status: int) -> None:
    headers = {"x-goog-api-key": key} if key else {}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{standin.url}/v1beta/models?key=good-key") as response,
    ):
        error = (await response.json())["error"]
    assert response.status == error["code"] == status
    if key:
        assert error["status"] == "INVALID_ARGUMENT"
        assert error["details"][0]["reason"] == "API_KEY_INVALID"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"contents": []}, "contents is not specified"),
        ({"surprise": 1}, '"surprise"'),
        ({"generationConfig": {"numberOfImages": 2}}, '"numberOfImages"'),
        ({"generationConfig": {"imageConfig": {"imageSize": "1k"}}}, "1k"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "valid role"),
        ({"contents": [{"role": "model", "parts": [{"inlineData": {}}]}]}, "thought_signature"),
    ],
)
async def test_request_that_the_api_would_refuse_is_refused(
    http: aiohttp.ClientSession, change: dict[str, Any], named: str
) -> None:
    status, answer = await call(http, BODY | change)
    assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert named in answer["error"]["message"]


async def test_script_runs_through_its_steps_and_keeps_the_last(
    http: aiohttp.ClientSession, standin: GeminiStandin
) -> None:
    standin.script(
        {"mode": "error", "status": 503, "times": 2},
        {"mode": "error", "status": 429, "retry_after": "7", "times": 1},
        {},
    )
    assert [(await call(http))[0] for _ in range(5)] == [503, 503, 429, 200, 200]


async def test_error_has_googles_shape_and_headers(http: aiohttp.ClientSession, standin: GeminiStandin) -> None:
    standin.configure(mode="error", status=429, retry_after="7", message="key {key} is expired", reason="EXPIRED")
    async with http.post(CALL, json=BODY) as response:
        error = (await response.json())["error"]
    assert response.headers["Retry-After"] == "7"
    assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert error["message"] == "key good-key is expired"


async def test_text_models_follow_their_own_script_and_the_schema(
    http: aiohttp.ClientSession, standin: GeminiStandin
) -> None:
    standin.configure(mode="error", status=500)
    path = "/v1beta/models/gemini-3-flash:generateContent"
    schema = {
        "type": "OBJECT",
        "properties": {
            "verdict": {"type": "STRING", "enum": ["safe", "unsafe"]},
            "n": {"type": "ARRAY", "minItems": 2},
        },
    }
    body = {"contents": BODY["contents"], "generationConfig": {"responseSchema": schema}}
    _, answer = await call(http, body, path)
    assert orjson.loads(answer["candidates"][0]["content"]["parts"][0]["text"]) == {"verdict": "safe", "n": [{}, {}]}
    standin.configure_text(text="certainly")
    _, answer = await call(http, body, path)
    assert answer["candidates"][0]["content"]["parts"] == [{"text": "certainly"}]


@pytest.mark.parametrize(
    ("formats", "marks"),
    [
        (["pretty"], [b'\n  "candidates"']),
        (["mime_after_data"], [b'","mimeType":"image/png"']),
        (["escaped_base64"], [b"\\/", b"\\u003d"]),
        (["chunked", "gzip"], []),
    ],
)
async def test_formats_change_the_text_and_not_the_meaning(
    http: aiohttp.ClientSession, standin: GeminiStandin, formats: list[Any], marks: list[bytes]
) -> None:
    # 100,000 bytes: not a multiple of three, so that the base64 ends with =
    standin.configure(formats=formats, image_bytes=100_000)
    async with http.post(CALL, json=BODY) as response:
        raw = await response.read()
    assert picture(orjson.loads(raw)).size == (1376, 768)
    assert all(mark in raw for mark in marks)
    assert ("chunked" in formats) == (response.headers.get("Transfer-Encoding") == "chunked")
    assert ("gzip" in formats) == (response.headers.get("Content-Encoding") == "gzip")


async def test_url_safe_base64(http: aiohttp.ClientSession, standin: GeminiStandin) -> None:
    standin.configure(formats=["url_safe_base64"])
    _, answer = await call(http)
    data = answer["candidates"][0]["content"]["parts"][0]["inlineData"]["data"]
    assert "/" not in data
    assert "_" in data
    Image.open(io.BytesIO(base64.urlsafe_b64decode(data))).load()


async def test_damaged_answers(http: aiohttp.ClientSession, standin: GeminiStandin) -> None:
    standin.configure(mode="truncated_base64")
    data = (await call(http))[1]["candidates"][0]["content"]["parts"][0]["inlineData"]["data"]
    with pytest.raises(ValueError, match="base64"):
        base64.b64decode(data)
    standin.configure(mode="broken_json")
    with pytest.raises(orjson.JSONDecodeError):
        await call(http)
    standin.configure(mode="half")
    with pytest.raises(aiohttp.ClientPayloadError):
        await call(http)
    standin.configure(mode="reset")
    with pytest.raises(aiohttp.ClientOSError):
        await call(http)


async def test_answers_of_something_that_is_not_the_api(http: aiohttp.ClientSession, standin: GeminiStandin) -> None:
    standin.configure(mode="html")
    async with http.post(CALL, json=BODY) as response:
        assert (response.status, response.content_type) == (200, "text/html")
    standin.configure(mode="redirect", location="http://127.0.0.1:9/x")
    async with http.post(CALL, json=BODY, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "http://127.0.0.1:9/x")
    standin.configure(mode="huge", huge_bytes=3_000_001)
    async with http.post(CALL, json=BODY) as response:
        assert len(await response.read()) == 3_000_001


async def test_client_that_hangs_up_is_counted(http: aiohttp.ClientSession, standin: GeminiStandin) -> None:
    standin.configure(mode="hang")
    calls = [asyncio.create_task(call(http)) for _ in range(3)]
    await standin.until(lambda stats: stats["waiting"] == 3)
    for pending in calls[:2]:
        pending.cancel()
    stats = await standin.until(lambda stats: stats["dropped"] == 2)
    assert (stats["waiting"], stats["peak_waiting"], stats["answered"]) == (1, 3, 0)
    calls[2].cancel()
    await asyncio.wait(calls)


async def test_drip_and_delay_take_their_time(http: aiohttp.ClientSession, standin: GeminiStandin) -> None:
    loop = asyncio.get_running_loop()
    standin.configure(mode="drip", drip_seconds=0.4, delay_seconds=0.3)
    start = loop.time()
    async with http.post(CALL, json=BODY) as response:
        headers_after = loop.time() - start
        assert picture(orjson.loads(await response.read())).size == (1376, 768)
    assert headers_after >= 0.3
    assert loop.time() - start >= 0.7


async def test_requests_are_recorded_with_lower_case_headers(
    http: aiohttp.ClientSession, standin: GeminiStandin
) -> None:
    await call(http)
    (recorded,) = standin.requests()
    assert (recorded["method"], recorded["path"], recorded["body"]) == ("POST", CALL, BODY)
    assert recorded["headers"]["x-goog-api-key"] == "good-key"
    standin.clear_requests()
    assert (standin.requests(), standin.stats()["total"]) == ([], 0)


def test_unknown_field_or_mode_is_refused(standin: GeminiStandin) -> None:
    with pytest.raises(ValueError, match="delay"):
        standin.configure(delay=3)  # type: ignore[call-arg] # the point of the test
    with pytest.raises(ValueError, match="explode"):
        standin.configure(mode="explode")  # type: ignore[arg-type] # the point of the test


def with_parts(*parts: Any, **fields: Any) -> Any:
    return BODY | {"contents": [{"role": "user", "parts": [{"text": "a red cube"}, *parts]}]} | fields


@pytest.mark.parametrize(
    ("inline", "words"),
    [
        ({"mimeType": "image/gif", "data": "R0lGODlh"}, "MIME type must be image/png"),
        ({"mimeType": "png", "data": "R0lGODlh"}, "contents[0].parts[1].inline_data.mime_type"),
        ({"mimeType": "image/png", "data": "data:image/png;base64,R0lG"}, "Base64 decoding failed"),
        ({"mimeType": "image/png", "data": "R0l"}, "Base64 decoding failed"),
        ({"mimeType": "image/png", "data": ""}, "Provided image is not valid."),
        ({"mimeType": "image/png"}, "Invalid JSON payload"),
        ({"mimeType": "image/png", "data": "R0lGODlh", "name": "x"}, "Invalid JSON payload"),
    ],
)
async def test_an_input_image_that_the_api_does_not_take_is_refused(
    http: aiohttp.ClientSession, inline: Any, words: str
) -> None:
    status, answer = await call(http, with_parts({"inlineData": inline}))
    assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert words in answer["error"]["message"]


async def test_input_images_are_taken_in_both_alphabets(http: aiohttp.ClientSession) -> None:
    for name, text in (("inlineData", "+/+/"), ("inline_data", "-_-_")):
        status, _ = await call(http, with_parts({name: {"mimeType": "image/heic", "data": text}}))
        assert status == 200


async def test_tools_are_known_by_name_and_by_model(http: aiohttp.ClientSession) -> None:
    for name in ("google_search", "googleSearch"):
        status, answer = await call(http, BODY | {"tools": [{name: {}}]})
        assert status == 200
        assert answer["candidates"][0]["groundingMetadata"]["searchEntryPoint"]["renderedContent"]
    status, answer = await call(http, BODY | {"tools": [{"bing_search": {}}]})
    assert (status, "bingSearch" in answer["error"]["message"]) == (400, True)
    path = "/v1beta/models/gemini-2.5-flash-image:generateContent"
    status, answer = await call(http, BODY | {"tools": [{"google_search": {}}]}, path)
    assert (status, answer["error"]["message"]) == (400, "Search as a tool is not enabled for this model")
