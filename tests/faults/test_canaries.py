"""Keys, tokens and prompts are let loose in an installation at its most talkative, then looked for everywhere."""

import asyncio
import base64
import urllib.parse
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
from redis import Redis

from api.schemas.generate import EXAMPLE_IMAGES
from benchmarks.gemini_standin import GeminiStandin
from core.settings import embedded_database
from services.accounts.sessions import SESSION
from services.quota.store import RESERVATIONS
from tests.support.databases import databases
from tests.support.github import CLIENT_SECRET, GitHubStandin, Person, github_settings
from tests.support.installation import Installation
from tests.support.waiting import eventually

# None of them has a form that the log's redaction knows: what keeps them out is that nobody writes them.
OPERATOR_KEY = "Canary-operator-8d1f6c20b7e94a53"
OWN_KEY = "Canary-own-41e7c9a85b2d4f06"
REFUSED_KEY = "Canary-refused-7b3e5d9c1f8a4620"
SAVED_KEY = "Canary-saved-5d8e2b7f9c1a4036"
PASSWORD = "Canary-password-3c6a9e1d7f5b4820"
SECRET_KEY = "canary-secret-2f9b7d4e8a1c4063b5d7e9f1a3c5b7d9"
KEYS = (OPERATOR_KEY, OWN_KEY, REFUSED_KEY, SAVED_KEY, PASSWORD, SECRET_KEY)
# An object's name begins with what a prompt begins with (SPEC section 14), and is known to Redis while it is made.
PROMPT = "a harbour in the early morning light, Canaryprompt-d27a and Canaryprompt-end"
PROMPT_MARK = "Canaryprompt"

BASIC, SEARCH, BLEND = "/api/generate/basic", "/api/generate/search", "/api/generate/blend"
Answers = list[tuple[str, bytes]]


def keyed_anew() -> dict[str, str]:
    return {"Idempotency-Key": uuid.uuid4().hex}


def forms(secret: str) -> set[bytes]:
    """As it is, and as it would be after the usual ways of writing it differently."""
    raw = secret.encode()
    return {raw, base64.b64encode(raw).rstrip(b"="), raw.hex().encode(), urllib.parse.quote(raw, safe="").encode()}


def found_in(content: bytes, secrets: tuple[str, ...]) -> list[str]:
    return [secret for secret in secrets if any(form in content for form in forms(secret))]


class Walk:
    """Everything that a caller can do, once, with all answers kept."""

    def __init__(self, service: Installation, gemini: GeminiStandin) -> None:
        self.service = service
        self.gemini = gemini
        self.answers: Answers = []
        self.tokens: list[str] = []

    @asynccontextmanager
    async def client(self, token: str = "", key: str = "") -> AsyncIterator[httpx.AsyncClient]:
        headers = ({"Authorization": f"Bearer {token}"} if token else {}) | ({"X-API-Key": key} if key else {})
        hooks = {"response": [self._keep]}
        async with httpx.AsyncClient(
            base_url=self.service.url, timeout=30, headers=headers, event_hooks=hooks
        ) as client:  # fmt: skip
            yield client

    async def _keep(self, response: httpx.Response) -> None:
        body = await response.aread()
        lines = b"\n".join(name + b": " + value for name, value in response.headers.raw)
        self.answers.append((f"{response.request.method} {response.request.url.path}", lines + b"\n\n" + body))

    async def sign_in(self) -> dict[str, Any]:
        async with self.client() as client:
            tokens: dict[str, Any] = (await client.post("/api/auth/guest", json={})).json()
        self.tokens += [tokens["access_token"], tokens["refresh_token"]]
        return tokens

    async def reading(self, token: str) -> None:
        async with self.client(token) as client:
            image = (await client.post(BASIC, json={"prompt": PROMPT, "include_base64": True})).json()["data"]
            for path in ("/api/auth/me", "/api/auth/sessions", "/api/quota", "/api/history", "/api/generate/estimate"):
                assert (await client.get(path)).status_code == 200, path
            one = f"/api/history/{image['history_id']}"
            for url in (one, image["image_url"], image["thumbnail_url"]):
                assert (await client.get(url)).status_code == 200, url
            await client.post("/api/quota/check", json={"mode": "basic"}, headers={"X-API-Key": OWN_KEY})
            await client.delete(one)
            await client.post(f"{one}/restore")
            favorite = await client.post(f"{one}/favorite", json={"is_favorite": True})
            assert favorite.status_code == 200
            for chosen in ({}, {"ids": [image["history_id"]]}):
                assert (await client.post("/api/history/export", json=chosen)).status_code == 200
            assert (await client.request("DELETE", "/api/history", json={"ids": [PROMPT[:90]]})).status_code == 200
            keyed = {"Idempotency-Key": "one-and-the-same"}
            for prompt in (PROMPT, PROMPT, PROMPT + " otherwise"):
                await client.post(BASIC, json={"prompt": prompt}, headers=keyed)
            await client.post(BASIC, json={"prompt": PROMPT, "save_to_history": False, "enable_thinking": True})
            assert (await client.post(SEARCH, json={"prompt": PROMPT})).status_code == 200
            for images in (list(EXAMPLE_IMAGES), [base64.b64encode(OWN_KEY.encode()).decode()]):
                response = await client.post(BLEND, json={"prompt": PROMPT, "images": images}, headers=keyed_anew())
                assert response.status_code == (200 if images[1:] else 400), response.text
            files = {"images": (f"{OWN_KEY}.png", base64.b64decode(EXAMPLE_IMAGES[0].partition(",")[2]))}
            assert (await client.post(BLEND, data={"prompt": PROMPT}, files=files)).status_code == 200
        async with self.client() as client:
            for path in ("/", "/docs", "/openapi.json", "/metrics", "/api/health/detailed", "/api/i18n/zh"):
                assert (await client.get(path)).status_code == 200, path

    async def with_an_account(self, github: GitHubStandin) -> None:
        """Both kinds, with a key saved on the session, in the middle of failures too; then gone again."""
        body = {"email": "canary@example.org", "password": PASSWORD}
        async with self.client() as client:
            await self._account((await client.post("/api/auth/register", json=body)).json())
            await self._account((await client.post("/api/auth/login", json=body)).json())
            for wrong in (body | {"password": PASSWORD + "x"}, body | {"email": PASSWORD}, body | {"name": "x"}):
                assert (await client.post("/api/auth/login", json=wrong)).status_code in {401, 422}
            assert (await client.post("/api/auth/register", json=body)).status_code == 422
            begun = (await client.post("/api/auth/github/login", json={})).json()
            code, state = github.approve(begun["redirect_url"], Person(1, "canary"))
            answer = {"code": code, "state": state}
            await self._account((await client.post("/api/auth/github/callback", json=answer)).json())
            assert (await client.post("/api/auth/github/callback", json=answer)).status_code == 401

    async def _account(self, tokens: dict[str, Any]) -> None:
        self.tokens += [tokens["access_token"], tokens["refresh_token"]]
        async with self.client(tokens["access_token"]) as client:
            for key, status in ((SAVED_KEY, 200), (REFUSED_KEY, 400), (f"nbk_{OWN_KEY}", 400), (OWN_KEY * 10, 422)):
                assert (await client.put("/api/auth/api-key", json={"api_key": key})).status_code == status
            self.gemini.clear_requests()
            assert (await client.post(BASIC, json={"prompt": PROMPT})).status_code == 200
            assert [request["headers"]["x-goog-api-key"] for request in self.gemini.requests()] == [SAVED_KEY]
            for path in ("/api/auth/api-key", "/api/auth/sessions", "/api/auth/me/export", "/api/quota"):
                assert (await client.get(path)).status_code == 200, path
            assert (await client.get("/api/admin/users")).status_code == 403
            made = await client.post("/api/auth/service-keys", json={"name": "a program"})
            assert made.status_code == 201, made.text
            await self._program(made.json()["key"])

    async def _program(self, key: str) -> None:
        """A service key, on routes that it does not open, in every place where somebody may put it."""
        self.tokens.append(key)
        async with self.client(key) as client:
            for path in ("/api/auth/me", "/api/quota", "/api/auth/service-keys"):
                assert (await client.get(path)).status_code == 401, path
        async with self.client(key=key) as client:
            assert (await client.post(BASIC, json={"prompt": PROMPT})).status_code == 400

    async def getting_it_wrong(self, token: str) -> None:
        async with self.client(token) as client:
            bodies: tuple[dict[str, Any], ...] = (
                {"prompt": PROMPT * 100}, {"prompt": [PROMPT]}, {"prompt": PROMPT, "seed": PROMPT},
                {"prompt": PROMPT, "aspect_ratio": OWN_KEY}, {"prompt": PROMPT, "provider": PROMPT},
                {"prompt": PROMPT + "\0"},
            )  # fmt: skip
            for body in bodies:
                assert (await client.post(BASIC, json=body)).status_code == 422, body
            broken = {"Content-Type": "application/json"}
            assert (await client.post(BASIC, content=f'{{"prompt": "{PROMPT}', headers=broken)).status_code == 422
            for key in (f"nbk_{OWN_KEY}", f"{OWN_KEY} {OWN_KEY}", OWN_KEY * 9):
                response = await client.post(BASIC, json={"prompt": PROMPT}, headers={"X-API-Key": key})
                assert response.status_code == 400
        for wrong in (f"Basic {token}", f"Bearer {token}x", f"Bearer {token} {token}", token):
            async with self.client() as client:
                response = await client.get("/api/auth/me", headers={"Authorization": wrong})
                assert response.status_code == 401
                await client.get("/api/auth/me", params={"token": token, "key": OWN_KEY})
                response = await client.post("/api/auth/refresh", json={"refresh_token": token[:150]})
                assert response.status_code == 401

    async def failing_upstream(self, token: str) -> None:
        """The careless upstream puts the key that it was called with into what it says."""
        echo = "API key {key} not valid. Please pass a valid API key: ?key={key}"
        steps: tuple[dict[str, Any], ...] = (
            *({"mode": "error", "status": status, "message": echo} for status in (400, 401, 403, 404, 429, 500, 503)),
            {"mode": "html"}, {"mode": "redirect"}, {"mode": "half"}, {"mode": "reset"}, {"mode": "hang"},
            {"mode": "broken_json"}, {"mode": "truncated_base64"}, {"mode": "not_image"}, {"mode": "safety"},
            {"mode": "prompt_blocked"}, {"mode": "no_image", "text": f"I will not draw {PROMPT}"},
        )  # fmt: skip
        self.gemini.refuse_keys([REFUSED_KEY])
        for step in steps:
            self.gemini.configure(**step)
            calls = [self._failing(token, key) for key in ("", OWN_KEY, REFUSED_KEY)]
            await asyncio.gather(*calls, self._failing("", OWN_KEY))
        self.gemini.configure(pixels=(8, 8))
        async with self.client(key=OWN_KEY) as client:
            assert (await client.post(BASIC, json={"prompt": PROMPT})).status_code == 200

    async def _failing(self, token: str, key: str) -> None:
        async with self.client(token, key) as client:
            response = await client.post(BASIC, json={"prompt": PROMPT})
            assert response.status_code >= 400, response.text

    async def defects_of_ours(self, tokens: dict[str, Any]) -> None:
        """A 500 on the way in, from a session that is broken, and one with an image in hand, from a broken index."""
        async with self.client(tokens["access_token"]) as client:
            with databases.refusing_images(self.service.data):
                assert (await client.post(BASIC, json={"prompt": PROMPT})).status_code == 500
                # The sweep finds the same, and must neither tell nor stop.
                assert await eventually(self._says("reservation not swept"), 20)
            assert await eventually(self._nothing_is_held, 20)
            session = (await client.get("/api/auth/sessions")).json()["sessions"][0]["id"]
            with self.service.redis() as redis:
                redis.hdel(SESSION(sid=session), "created_at")
            assert (await client.get("/api/auth/me")).status_code == 500

    def _says(self, words: str) -> Any:
        async def said() -> bool:
            return words in self.service.output()

        return said

    async def _nothing_is_held(self) -> bool:
        with self.service.redis() as redis:
            return bool(redis.zcard(RESERVATIONS()) == 0)

    async def signing_out(self, tokens: dict[str, Any]) -> None:
        async with self.client() as client:
            body = {"refresh_token": tokens["refresh_token"]}
            renewed = (await client.post("/api/auth/refresh", json=body)).json()
            self.tokens += [renewed["access_token"], renewed["refresh_token"]]
        async with self.client(renewed["access_token"]) as client:
            assert (await client.post("/api/auth/logout")).status_code == 200
            assert (await client.get("/api/auth/me")).status_code == 401


def dumped(redis: Redis) -> bytes:
    """Every key and all that it holds, as Redis gives it out."""
    lines = []
    for key in redis.scan_iter("*"):
        readers = {b"hash": redis.hgetall, b"set": redis.smembers, b"string": redis.get}
        kind = redis.type(key)
        value = readers[kind](key) if kind in readers else redis.dump(key)
        lines.append(key + b" " + repr(value).encode())
    return b"\n".join(lines)


async def test_keys_and_tokens_are_nowhere_and_the_prompt_only_where_it_belongs(
    installation: Installation, gemini: GeminiStandin, github: GitHubStandin
) -> None:
    gemini.configure(pixels=(8, 8))
    leader = installation.start(
        GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, SECRET_KEY=SECRET_KEY, LOG_LEVEL="DEBUG",
        LOG_FORMAT="json", DEBUG="true", AUDIT_LOG_PROMPTS="false", TRIAL_COOLDOWN_SECONDS="0",
        TRIAL_GUEST_SHARE="1", TRIAL_GLOBAL_QUOTA="1000", TRIAL_BASIC_1K_LIMIT="1000", RATE_LIMIT_REQUESTS="10000",
        REQUEST_TIMEOUT_SECONDS="1", RESERVATION_GRACE_SECONDS="1", LOGIN_RATE_PER_MINUTE="1000",
        **github_settings(github),
    )  # fmt: skip
    walk = Walk(installation, gemini)
    tokens = await walk.sign_in()
    await walk.reading(tokens["access_token"])
    await walk.getting_it_wrong(tokens["access_token"])
    await walk.failing_upstream(tokens["access_token"])
    await walk.signing_out(await walk.sign_in())
    await walk.with_an_account(github)

    gemini.configure(pixels=(8, 8), delay_seconds=0.7)
    gemini.clear_requests()
    call = asyncio.create_task(walk.reading(tokens["access_token"]))
    await gemini.until(lambda stats: stats["waiting"] == 1)
    with installation.redis() as redis:
        in_redis = dumped(redis)
    assert b"quota:reservation:" in in_redis, "the dump was made too late to show a call under way"
    await call

    gemini.configure(pixels=(8, 8))
    await walk.defects_of_ours(tokens)
    with installation.redis() as redis:
        in_redis += dumped(redis)
        assert redis.dbsize() > 5
    leader.terminate()
    leader.wait(30)

    assert github.tokens
    secrets = (*KEYS, *walk.tokens, *github.tokens, CLIENT_SECRET)
    log = installation.output()
    entries = [orjson.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {entry.get("status") for entry in entries} >= {200, 401, 422, 500, 502, 503, 504}
    assert found_in(log.encode(), (*secrets, PROMPT_MARK)) == []
    assert found_in(in_redis, (*secrets, PROMPT_MARK)) == []
    check_answers(walk.answers, walk.tokens)
    check_files(installation.data, secrets)


def check_answers(answers: Answers, tokens: list[str]) -> None:
    assert len(answers) > 100
    giving_out = {
        "POST /api/auth/guest", "POST /api/auth/refresh", "POST /api/auth/register", "POST /api/auth/login",
        "POST /api/auth/github/callback", "POST /api/auth/service-keys",
    }  # fmt: skip
    assert {token for name, content in answers if name in giving_out for token in found_in(content, tuple(tokens))} == {
        *tokens
    }
    for name, content in answers:
        assert found_in(content, KEYS) == [], name
        assert name in giving_out or found_in(content, tuple(tokens)) == [], name


def check_files(data: Path, secrets: tuple[str, ...]) -> None:
    """The database with its log, all objects, and what the embedded Redis writes down of every command."""
    files = {path.relative_to(data).as_posix(): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    files[embedded_database(data).name] = databases.contents(data)
    assert {name: found for name, content in files.items() if (found := found_in(content, secrets))} == {}
    with_prompt = {name for name, content in files.items() if PROMPT_MARK.encode() in content}
    assert any(name.endswith(".json") for name in with_prompt)
    belongs = ("storage/users/", "storage/unlisted/", embedded_database(data).name)
    assert {name for name in with_prompt if not name.startswith(belongs)} == set()
    assert any("appendonly" in name or name.startswith("redis/") for name in files), "Redis writes elsewhere now"
