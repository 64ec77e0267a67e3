"""Whatever is wrong with a body is said by name, and costs nothing."""

import json
from typing import Any

from tests.api.asking import BASIC, SMALL_BODY_BYTES, post_raw, reasons
from tests.support.answers import fields_of
from tests.support.service import Guest, RunningService

CHECK = "/api/quota/check"


async def test_every_field_of_basic_is_checked(guest: Guest) -> None:
    wrong: list[tuple[str, Any, str]] = [
        ("prompt", None, "wrong_type"),
        ("prompt", 5, "wrong_type"),
        ("prompt", ["a"], "wrong_type"),
        ("prompt", "", "blank"),
        ("prompt", " \n\t\u3000 ", "blank"),
        ("prompt", "x" * 4001, "too_long"),
        ("prompt", "a\0b", "bad_text"),
        ("aspect_ratio", "", "blank"),
        ("aspect_ratio", "7:3", "not_supported"),
        ("aspect_ratio", 16 / 9, "wrong_type"),
        ("aspect_ratio", "1" * 101, "too_long"),
        ("resolution", "8K", "not_supported"),
        ("resolution", "1k", "not_supported"),
        ("resolution", 1, "wrong_type"),
        ("safety_level", "all", "not_allowed"),
        ("safety_level", "Strict", "not_allowed"),
        ("safety_level", 0, "not_allowed"),
        ("enable_thinking", True, "not_supported"),
        ("provider", "nobody", "not_allowed"),
        ("provider", True, "wrong_type"),
        ("model", "none-such", "not_allowed"),
        ("model", "gemini-3-pro-image", "not_allowed"),
        ("model", {}, "wrong_type"),
        ("negative_prompt", "rain", "not_supported"),
        ("negative_prompt", " ", "blank"),
        ("negative_prompt", "x" * 4001, "too_long"),
        ("seed", "5", "wrong_type"),
        ("seed", 5.0, "wrong_type"),
        ("seed", 1.5, "wrong_type"),
        ("seed", True, "wrong_type"),
        ("seed", -1, "too_small"),
        ("seed", 2**31, "too_large"),
        ("seed", 10**400, "too_large"),
    ]
    no_bools: tuple[Any, ...] = ("true", 1, 0, None, [], 1.0)
    for flag in ("enable_thinking", "save_to_history", "include_base64"):
        wrong += [(flag, value, "wrong_type") for value in no_bools]
    for name, value, reason in wrong:
        response = await guest.client.post(BASIC, json={"prompt": "a"} | {name: value})
        assert reasons(response) == {name: reason}, (name, value)


async def test_all_that_is_wrong_is_named_at_once(guest: Guest) -> None:
    response = await guest.client.post(BASIC, json={"seed": "5", "enable_thinking": "true", "extra": 1})
    assert reasons(response) == {
        "prompt": "missing",
        "seed": "wrong_type",
        "enable_thinking": "wrong_type",
        "extra": "unknown_field",
    }
    response = await guest.client.post(BASIC, json={"prompt": "a", "aspect_ratio": "7:3", "negative_prompt": "b"})
    assert reasons(response) == {"aspect_ratio": "not_supported", "negative_prompt": "not_supported"}


async def test_the_answer_lists_what_is_allowed(guest: Guest) -> None:
    allowed = {
        "provider": ({"provider": "nobody"}, {"gemini", "demo"}),
        "model": ({"model": "none-such"}, {"demo"}),
        "resolution": ({"resolution": "8K"}, {"1K", "2K", "4K"}),
        "safety_level": ({"safety_level": "all"}, {"strict", "moderate", "relaxed", "none"}),
    }
    for name, (fields, values) in allowed.items():
        found = fields_of(await guest.client.post(BASIC, json={"prompt": "a", **fields}))
        assert set(found[name]["allowed"]) == values
    found = fields_of(await guest.client.post(BASIC, json={"prompt": "a", "aspect_ratio": "7:3"}))
    assert {"1:1", "16:9", "9:16", "4:3", "3:4"} <= set(found["aspect_ratio"]["allowed"])
    found = fields_of(await guest.client.post(BASIC, json={"prompt": "x" * 4001, "seed": -1}))
    assert found["prompt"]["limit"] == 4000
    assert found["prompt"]["message"] == "is too long: at most 4000"
    assert found["seed"]["limit"] == 0


async def test_a_model_past_its_end_names_its_successor(guest: Guest) -> None:
    response = await guest.client.post(BASIC, json={"prompt": "a", "provider": "gemini", "model": "imagen-4"})
    field = fields_of(response)["model"]
    assert (field["reason"], field["hint"]) == ("model_ended", "gemini-3-pro-image")


async def test_unknown_fields_are_refused_by_name_whatever_the_name(guest: Guest) -> None:
    for name in ("promt", "", "a.b", "__proto__", "名字", "0", "PROMPT"):
        response = await guest.client.post(BASIC, json={"prompt": "a", name: 1})
        assert reasons(response).get(name or "body") == "unknown_field", name
    response = await post_raw(guest, rb'{"prompt": "a", "\ud800": 1}')
    assert reasons(response) == {"?": "unknown_field"}
    response = await guest.client.post(BASIC, json={"prompt": "a", "x" * 1000: 1})
    assert reasons(response) == {"x" * 100: "unknown_field"}


async def test_a_flood_of_unknown_fields_does_not_become_a_flood_of_an_answer(guest: Guest) -> None:
    response = await guest.client.post(BASIC, json={f"f{number}": 0 for number in range(1500)})
    assert 10 <= len(fields_of(response)) <= 100
    assert len(response.content) < SMALL_BODY_BYTES


async def test_a_body_that_is_no_json_is_refused(guest: Guest) -> None:
    bodies = {
        b"{": "bad_json",
        b'{"prompt": "a",}': "bad_json",
        b"{'prompt': 'a'}": "bad_json",
        b"prompt=a": "bad_json",
        b'{"prompt": "\xff\xfe"}': "bad_json",
        b"\xff\xfe\x00": "bad_json",
        b"\x00": "bad_json",
        b"[" * 5000: "bad_json",
        b'{"a":' * 3000: "bad_json",
        b'{"seed": ' + b"9" * 5000 + b"}": "bad_json",
        b"": "missing",
        b"null": "wrong_type",
        b"[]": "wrong_type",
        b'["prompt", "a"]': "wrong_type",
        b'"prompt"': "wrong_type",
        b"5": "wrong_type",
        b"true": "wrong_type",
    }
    for content, reason in bodies.items():
        assert reasons(await post_raw(guest, content)) == {"body": reason}, content[:40]


async def test_json_that_only_python_would_take_is_no_number_here(guest: Guest) -> None:
    for value in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
        response = await post_raw(guest, b'{"prompt": "a", "seed": ' + value + b"}")
        assert list(fields_of(response)) in (["seed"], ["body"])


async def test_deep_nesting_inside_of_a_field_is_a_wrong_type(guest: Guest) -> None:
    nested = b'{"prompt": ' + b"[" * 200 + b"]" * 200 + b"}"
    assert reasons(await post_raw(guest, nested)) == {"prompt": "wrong_type"}


async def test_a_lone_surrogate_is_no_text(guest: Guest) -> None:
    for field in ("prompt", "negative_prompt", "aspect_ratio", "model", "provider"):
        body = json.dumps({"prompt": "a"} | {field: "a\ud83d"}).encode("ascii")
        assert reasons(await post_raw(guest, body)) == {field: "bad_text"}


async def test_another_content_type_is_refused_by_its_name(guest: Guest) -> None:
    content = b'{"prompt": "a"}'
    for content_type in ("application/x-www-form-urlencoded", "text/plain", "image/png", "json", None):
        field = fields_of(await post_raw(guest, content, content_type))["body"]
        assert (field["reason"], field["hint"]) == ("content_type", "application/json"), content_type
        assert field["message"] == "must be sent as application/json"
    response = await guest.client.post(BASIC, files={"prompt": b"a"})
    assert reasons(response) == {"body": "content_type"}


async def test_the_quota_check_is_checked(guest: Guest) -> None:
    wrong: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({}, {"mode": "missing"}),
        ({"mode": None}, {"mode": "not_allowed"}),
        ({"mode": "none-such"}, {"mode": "not_allowed"}),
        ({"mode": "basic", "count": 0}, {"count": "too_small"}),
        ({"mode": "basic", "count": 11}, {"count": "too_large"}),
        ({"mode": "basic", "count": "5"}, {"count": "wrong_type"}),
        ({"mode": "basic", "count": True}, {"count": "wrong_type"}),
        ({"mode": "basic", "count": None}, {"count": "wrong_type"}),
        ({"mode": "basic", "resolution": ""}, {"resolution": "not_allowed"}),
        ({"mode": "basic", "resolution": "8K"}, {"resolution": "not_allowed"}),
        ({"mode": "basic", "extra": 1}, {"extra": "unknown_field"}),
    ]
    for body, expected in wrong:
        assert reasons(await guest.client.post(CHECK, json=body)) == expected, body
    for body in ({"mode": "basic", "count": 1}, {"mode": "batch", "count": 10, "resolution": None}):
        assert (await guest.client.post(CHECK, json=body)).status_code == 200, body


async def test_both_edges_of_a_prompt_pass(service: RunningService) -> None:
    guest = await service.guest()
    longest = "ü" * 3999 + "😀"
    for prompt, kept in (("  a\n", "a"), (f" {longest}\t", longest)):
        data = await guest.image(prompt, seed=0 if kept == "a" else 2**31 - 1, resolution=" 1K ")
        detail = (await guest.client.get(f"/api/history/{data['history_id']}")).json()
        assert detail["prompt"] == kept
