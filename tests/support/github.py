"""A stand-in for GitHub's sign-in, strict where GitHub is: https://docs.github.com/en/apps/oauth-apps, with PKCE.

In the test's own event loop, behind a real socket. What a person does in GitHub's window is `approve`.
"""

import asyncio
import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

CLIENT_ID = "Iv1.ofTheTests"
CLIENT_SECRET = "github-secret-of-the-tests-7c1e9d"
REDIRECT_URI = "https://images.example/signed-in"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Mode = Literal["well", "away", "slow", "dripping", "html", "odd"]


@dataclass(frozen=True)
class Person:
    """`public_email` None: hidden in the profile. `emails`: what `/user/emails` lists; None: GitHub refuses to."""

    id: int
    login: str
    name: str | None = None
    public_email: str | None = None
    emails: list[dict[str, Any]] | None = field(default_factory=list)

    @property
    def profile(self) -> dict[str, Any]:
        return {
            "id": self.id, "login": self.login, "name": self.name, "email": self.public_email,
            "avatar_url": f"https://avatars.example/u/{self.id}", "type": "User",
        }  # fmt: skip


@dataclass(frozen=True)
class _Grant:
    person: Person
    challenge: str


def address(email: str, *, primary: bool = True, verified: bool = True) -> dict[str, Any]:
    return {"email": email, "primary": primary, "verified": verified, "visibility": None}


class GitHubStandin:
    def __init__(self) -> None:
        self.mode: Mode = "well"
        self.url = ""
        self.refusals: list[str] = []
        self.tokens: list[str] = []
        self._grants: dict[str, _Grant] = {}
        self._people: dict[str, Person] = {}

    def approve(self, redirect_url: str, person: Person) -> tuple[str, str]:
        """The person says yes on the authorize page; answers the code and the state that the browser brings back."""
        assert redirect_url.startswith(f"{self.url}/login/oauth/authorize?"), redirect_url
        query = {name: values[0] for name, values in parse_qs(urlsplit(redirect_url).query).items()}
        assert query["client_id"] == CLIENT_ID
        assert query["redirect_uri"] == REDIRECT_URI
        assert query["scope"] == "read:user user:email"
        assert query["code_challenge_method"] == "S256"
        assert len(query["code_challenge"]) == 43
        code = secrets.token_hex(10)
        self._grants[code] = _Grant(person, query["code_challenge"])
        return code, query["state"]

    def app(self) -> web.Application:
        @web.middleware
        async def misbehave(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._misbehave(request, handler)

        app = web.Application(middlewares=[misbehave])
        app.router.add_post("/login/oauth/access_token", self._token)
        app.router.add_get("/user", self._user)
        app.router.add_get("/user/emails", self._emails)
        return app

    async def _misbehave(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        match self.mode:
            case "away":
                return web.Response(status=503, text="Unicorn!")
            case "slow":
                await asyncio.sleep(60)
            case "dripping":
                return await _drip(request)
            case "html":
                return web.Response(text="<html>Sorry</html>", content_type="text/html")
            case "odd" if request.path == "/user":
                return web.json_response({"id": "not a number", "login": None})
        return await handler(request)

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        grant = self._grants.pop(str(form.get("code")), None)  # a code works once, whatever comes with it
        if form.get("client_id") != CLIENT_ID or form.get("client_secret") != CLIENT_SECRET:
            return self._refuse("incorrect_client_credentials")
        if form.get("redirect_uri") != REDIRECT_URI:
            return self._refuse("redirect_uri_mismatch")
        if grant is None:
            return self._refuse("bad_verification_code")
        digest = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        if urlsafe_b64encode(digest).rstrip(b"=").decode() != grant.challenge:
            return self._refuse("bad_code_verifier")
        token = f"gho_{secrets.token_hex(18)}"
        self._people[token] = grant.person
        self.tokens.append(token)
        return web.json_response({"access_token": token, "token_type": "bearer", "scope": "read:user,user:email"})

    def _refuse(self, error: str) -> web.Response:
        """As GitHub does it: 200, with the error inside."""
        self.refusals.append(error)
        return web.json_response({"error": error, "error_description": "The code passed is incorrect or expired."})

    async def _user(self, request: web.Request) -> web.Response:
        person = self._person(request)
        return web.json_response(person.profile) if person else web.json_response({"message": "no"}, status=401)

    async def _emails(self, request: web.Request) -> web.Response:
        person = self._person(request)
        if person is None or person.emails is None:
            return web.json_response({"message": "Resource not accessible"}, status=403)
        return web.json_response(person.emails)

    def _person(self, request: web.Request) -> Person | None:
        return self._people.get(request.headers.get("authorization", "").removeprefix("Bearer "))


async def _drip(request: web.Request) -> web.StreamResponse:
    """A byte now and then: no single read takes long."""
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    for _ in range(600):
        await response.write(b" ")
        await asyncio.sleep(0.1)
    return response


@asynccontextmanager
async def running_github() -> AsyncIterator[GitHubStandin]:
    standin = GitHubStandin()
    runner = web.AppRunner(standin.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    standin.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield standin
    finally:
        await runner.cleanup()


def github_settings(standin: GitHubStandin) -> dict[str, str]:
    return {
        "GITHUB_CLIENT_ID": CLIENT_ID, "GITHUB_CLIENT_SECRET": CLIENT_SECRET, "GITHUB_REDIRECT_URI": REDIRECT_URI,
        "GITHUB_BASE_URL": standin.url, "GITHUB_API_URL": standin.url,
    }  # fmt: skip
