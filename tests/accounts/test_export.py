"""All that somebody has here, as a zip."""

import hashlib
import io
import zipfile
from typing import Any

import httpx
import orjson

from tests.support.answers import error_of
from tests.support.people import registered
from tests.support.service import Guest, RunningService


async def exported(who: Guest) -> tuple[httpx.Response, dict[str, bytes]]:
    response = await who.client.get("/api/auth/me/export")
    assert response.status_code == 200, response.text
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        return response, {name: archive.read(name) for name in archive.namelist()}


async def test_it_holds_the_account_the_sessions_the_history_and_the_bytes(service: RunningService) -> None:
    ada = await registered(service, "ada@example.org", name="Ada")
    made = [await ada.image(prompt) for prompt in ("a lighthouse", "可爱的猫")]
    other = await service.guest()
    await other.image("not hers")

    response, files = await exported(ada)

    assert response.headers["content-type"] == "application/zip"
    assert "attachment" in response.headers["content-disposition"]
    assert "content-length" not in response.headers, "it is made while it is sent"
    account = orjson.loads(files.pop("account.json"))
    assert account["account"] == ada.tokens["user"]
    assert [session["current"] for session in account["sessions"]] == [True]
    assert account["service_keys"] == []
    items: list[dict[str, Any]] = orjson.loads(files.pop("metadata.json"))["items"]
    assert [item["id"] for item in items] == [made[1]["history_id"], made[0]["history_id"]]
    assert [item["prompt"] for item in items] == ["可爱的猫", "a lighthouse"]
    for item, image in zip(items, reversed(made), strict=True):
        assert files.pop(item["file"]) == (await service.client.get(image["image_url"])).content
    assert orjson.loads(files.pop("prompts.json")) == {"prompts": []}
    assert files == {}


async def test_somebody_who_made_nothing_gets_their_account(service: RunningService) -> None:
    guest = await service.guest()
    _, files = await exported(guest)
    assert set(files) == {"account.json", "prompts.json", "metadata.json"}


async def test_nobody_gets_nothing(service: RunningService) -> None:
    error_of(await service.client.get("/api/auth/me/export"), 401, "UNAUTHORIZED")


async def test_no_secret_is_in_it(service: RunningService) -> None:
    ada = await registered(service, "ada@example.org")
    made = (await ada.client.post("/api/auth/service-keys", json={"name": "a program"})).json()
    response, files = await exported(ada)
    (shown,) = orjson.loads(files["account.json"])["service_keys"]
    assert made == shown | {"key": made["key"]}
    hashed = hashlib.sha256(made["key"].encode()).hexdigest()
    content = response.content + b"".join(files.values())
    for secret in (ada.tokens["access_token"], ada.tokens["refresh_token"], "argon2", made["key"], hashed):
        assert secret.encode() not in content
