"""What is wrong with a query, an address, a method or the size of a body; and in which language that is said."""

import asyncio
import json
from typing import Any

from tests.api.asking import BASIC, SMALL_BODY_BYTES, post_raw, reasons
from tests.support.answers import error_of, fields_of
from tests.support.service import Guest


async def test_queries_are_checked(guest: Guest) -> None:
    wrong: list[tuple[str, str, str, str]] = [
        ("/api/history", "limit", "0", "too_small"),
        ("/api/history", "limit", "101", "too_large"),
        ("/api/history", "limit", "five", "wrong_type"),
        ("/api/history", "limit", "", "wrong_type"),
        ("/api/history", "limit", "9" * 5000, "invalid"),
        ("/api/history", "offset", "-1", "too_small"),
        ("/api/history", "offset", str(2**31), "too_large"),
        ("/api/history", "mode", "none-such", "not_allowed"),
        ("/api/history", "sort", "random", "not_allowed"),
        ("/api/history", "favorites_only", "perhaps", "wrong_type"),
        ("/api/history", "date_from", "yesterday", "bad_format"),
        ("/api/history", "date_to", "2026-13-01", "bad_format"),
        ("/api/history", "session_id", "", "blank"),
        ("/api/history", "session_id", "x" * 101, "too_long"),
        ("/api/history", "session_id", "\0", "bad_text"),
        ("/api/history", "page", "2", "unknown_field"),
        ("/api/generate/estimate", "count", "0", "too_small"),
        ("/api/generate/estimate", "count", "11", "too_large"),
        ("/api/generate/estimate", "count", "1.5", "wrong_type"),
        ("/api/generate/estimate", "resolution", "8K", "not_supported"),
        ("/api/generate/estimate", "provider", "nobody", "not_allowed"),
        ("/api/generate/estimate", "model", "none-such", "not_allowed"),
        ("/api/generate/estimate", "n", "1", "unknown_field"),
        ("/api/images/img_nothing", "exp", "-1", "too_small"),
        ("/api/images/img_nothing", "exp", str(2**40 + 1), "too_large"),
        ("/api/images/img_nothing", "sig", "x" * 101, "too_long"),
        ("/api/images/img_nothing", "download", "perhaps", "wrong_type"),
        ("/api/images/img_nothing/thumbnail", "size", "1", "unknown_field"),
    ]
    for path, name, value, reason in wrong:
        response = await guest.client.get(path, params={name: value})
        assert reasons(response) == {name: reason}, (path, name, value[:40])
    response = await guest.client.delete("/api/history/img_nothing", params={"final": "perhaps"})
    assert reasons(response) == {"final": "wrong_type"}
    response = await guest.client.get("/api/history", params={"date_from": "2026-02-01", "date_to": "2026-01-01"})
    assert list(reasons(response).values()) == ["backwards"]


async def test_both_edges_of_queries_pass(guest: Guest) -> None:
    passing: list[tuple[str, dict[str, str | int]]] = [
        ("/api/history", {"limit": 1, "offset": 0}),
        ("/api/history", {"limit": 100, "offset": 2**31 - 1}),
        ("/api/history", {"date_from": "2026-01-01", "date_to": "2026-01-01"}),
        ("/api/history", {"date_from": "0001-01-01T00:00:00+14:00", "date_to": "9999-12-31"}),
        ("/api/history", {"date_from": "0001-01-01", "date_to": "9999-12-31T23:59:59.999-14:00"}),
        ("/api/generate/estimate", {"count": 1}),
        ("/api/generate/estimate", {"count": 10, "resolution": "4K", "provider": "demo", "model": "demo"}),
    ]
    for path, query in passing:
        response = await guest.client.get(path, params=query)
        assert response.status_code == 200, (query, response.text)


async def test_words_come_in_the_callers_language(guest: Guest) -> None:
    expected = {
        "zh-CN,zh;q=0.9,en;q=0.8": "zh",
        "en;q=0.5,zh;q=0.6": "zh",
        "fr, zh;q=0": "en",
        "de": "en",
        "zh;q=nonsense": "en",
        "ZH-hant": "zh",
    }
    texts = {"en": ("Some fields are missing", "is required"), "zh": ("部分字段缺失", "为必填项")}
    for header, language in expected.items():
        response = await guest.client.post(BASIC, json={}, headers={"Accept-Language": header})
        message, required = texts[language]
        assert error_of(response, 422, "VALIDATION_ERROR")["message"].startswith(message), header
        assert fields_of(response)["prompt"]["message"] == required
        assert response.headers["content-language"] == language


async def test_what_is_not_there_is_404_of_the_usual_shape(guest: Guest) -> None:
    for path in (
        "/nothing",
        "/api",
        "/api/nothing",
        "/api/generate/none-such",
        "/assets/nothing.js",
        "/%00",
        "/api/%ff",
    ):
        error_of(await guest.client.get(path), 404, "NOT_FOUND")
    error_of(await guest.client.get("/assets/..%2f..%2fcore%2fsettings.py"), 404, "NOT_FOUND")


async def test_what_cannot_be_a_google_key_goes_nowhere(guest: Guest) -> None:
    for key in ("short", "x" * 201, "with space in it", "nbk_0123456789abcdef", "k\u00e9y-of-some-length"):
        for method, path in (("GET", "/api/quota"), ("POST", BASIC)):
            headers = {b"X-API-Key": key.encode("latin-1")}
            response = await guest.client.request(
                method, path, json={"prompt": "a"} if method == "POST" else None, headers=headers
            )
            error_of(response, 400, "INVALID_API_KEY")
            assert key not in response.text


async def test_another_method_is_405_with_those_that_work(guest: Guest) -> None:
    for method, path, allowed in (
        ("GET", BASIC, "POST"),
        ("PUT", "/api/history", "GET"),
        ("PATCH", "/api/quota", "GET"),
        ("PROPFIND", "/api/quota", "GET"),
    ):
        response = await guest.client.request(method, path)
        assert error_of(response, 405, "METHOD_NOT_ALLOWED")["type"] == "method_not_allowed"
        assert allowed in response.headers["allow"]


async def test_head_answers_without_a_body(guest: Guest) -> None:
    for path, status in (
        ("/", 200),
        ("/api/health", 200),
        ("/api/health/ready", 200),
        ("/nothing", 404),
        (BASIC, 405),
        ("/api/images/img_nothing", 404),
    ):
        response = await guest.client.head(path)
        assert (response.status_code, response.content) == (status, b""), path
        assert response.headers["x-request-id"]


async def test_an_announced_body_over_the_limit_is_refused_before_it_is_read(guest: Guest) -> None:
    head = f"POST {BASIC} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {{}}\r\n\r\n"
    for length in (SMALL_BODY_BYTES + 1, 10**15):
        status, body = await _send(guest, head.format(length).encode())
        assert (status, body["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
        assert body["error"]["details"] == {"limit": SMALL_BODY_BYTES}


async def test_a_chunked_body_over_the_limit_is_refused_once_it_is_over(guest: Guest) -> None:
    token = guest.tokens["access_token"]
    head = (
        f"POST {BASIC} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = f"{SMALL_BODY_BYTES + 1:x}\r\n".encode() + b" " * (SMALL_BODY_BYTES + 1) + b"\r\n"
    # The body has no end: an answer can only come from somebody who does not wait for it.
    status, body = await _send(guest, head.encode() + chunk)
    assert (status, body["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_body_of_just_the_limit_is_read(guest: Guest) -> None:
    content = b'{"prompt": 5}'.ljust(SMALL_BODY_BYTES)
    assert reasons(await post_raw(guest, content)) == {"prompt": "wrong_type"}
    error_of(await post_raw(guest, content + b" "), 413, "PAYLOAD_TOO_LARGE")


async def _send(guest: Guest, content: bytes) -> tuple[int, dict[str, Any]]:
    """Send raw bytes and read the answer to its end, which only comes if the server closes the connection."""
    url = guest.client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(content)
        async with asyncio.timeout(10):
            answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    parsed: dict[str, Any] = json.loads(body)
    return int(head.split()[1]), parsed
