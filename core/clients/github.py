"""GitHub as far as a sign-in needs it: the authorize page, the code for a token, the profile and its e-mail.

Wire format: https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps, with PKCE.
"""

import asyncio
import hashlib
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx

from core.setting_groups import AccountSettings

SCOPE = "read:user user:email"
CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 10.0
EMAILS_A_PAGE = 100
_API_HEADERS = {"accept": "application/vnd.github+json", "user-agent": "nano-banana-lab"}


class GitHubRefused(Exception):
    """GitHub takes this code or this token for no good one."""


class GitHubAway(Exception):
    """GitHub does not answer, or not as documented."""


@dataclass(frozen=True)
class GitHubProfile:
    """`id` is what an account is known by; the login may be renamed and be another's later.

    `email` is None unless it is verified.
    """

    id: int
    login: str
    name: str | None
    email: str | None
    avatar_url: str | None


def new_verifier() -> str:
    """What a sign-in keeps to itself until the code comes back (PKCE, RFC 7636)."""
    return secrets.token_urlsafe(48)


def challenge_of(verifier: str) -> str:
    """The S256 challenge that goes to the authorize page."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class GitHubClient:
    """One for the process; close it at the end. `total_seconds` is how long a sign-in waits for all of its answers."""

    def __init__(self, settings: AccountSettings, *, total_seconds: float = TOTAL_SECONDS) -> None:
        if settings.github_client_secret is None:
            raise ValueError("a GitHub sign-in needs GITHUB_CLIENT_SECRET")
        self._secret = settings.github_client_secret
        self._client_id = settings.github_client_id
        self._redirect_uri = settings.github_redirect_uri
        self._base_url = settings.github_base_url
        self._api_url = settings.github_api_url
        self._total_seconds = total_seconds
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(total_seconds, connect=CONNECT_SECONDS))

    def authorize_url(self, state: str, verifier: str) -> str:
        """Where the browser goes. Without GITHUB_REDIRECT_URI GitHub returns to the address registered with it."""
        query = {
            "client_id": self._client_id,
            "scope": SCOPE,
            "state": state,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        return f"{self._base_url}/login/oauth/authorize?{urlencode(query | self._redirect())}"

    async def profile(self, code: str, verifier: str) -> GitHubProfile:
        """Who has signed in there. Raises GitHubRefused or GitHubAway."""
        try:
            async with asyncio.timeout(self._total_seconds):
                return await self._profile(await self._token(code, verifier))
        except TimeoutError as error:
            raise GitHubAway(f"no answer within {self._total_seconds} s") from error

    async def _profile(self, token: str) -> GitHubProfile:
        found = await self._get("/user", token)
        try:
            email = _text(found.get("email")) or await self._primary_email(token)
            return GitHubProfile(
                id=int(found["id"]),
                login=str(found["login"]),
                name=_text(found.get("name")),
                email=email,
                avatar_url=_text(found.get("avatar_url")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise GitHubAway(f"a profile of an unknown shape: {error!r}") from error

    async def close(self) -> None:
        await self._http.aclose()

    def _redirect(self) -> dict[str, str]:
        return {"redirect_uri": self._redirect_uri} if self._redirect_uri else {}

    async def _token(self, code: str, verifier: str) -> str:
        form = {
            "client_id": self._client_id,
            "client_secret": self._secret.get_secret_value(),
            "code": code,
            "code_verifier": verifier,
        }
        answer = await self._ask(
            "POST",
            f"{self._base_url}/login/oauth/access_token",
            data=form | self._redirect(),
            headers={"accept": "application/json"},
        )
        # A code that is wrong, used or expired comes as 200 with an error in it.
        if not isinstance(answer, dict) or not isinstance(answer.get("access_token"), str):
            reason = answer.get("error") if isinstance(answer, dict) else None
            raise GitHubRefused(f"no token for the code: {str(reason)[:100]}")
        token: str = answer["access_token"]
        return token

    async def _primary_email(self, token: str) -> str | None:
        """The primary address, if it is verified; no other counts."""
        try:
            entries = await self._get(f"/user/emails?per_page={EMAILS_A_PAGE}", token)
        except GitHubRefused:
            return None  # they did not let us see any
        for entry in entries:
            if entry["primary"] and entry["verified"]:
                return str(entry["email"])
        return None

    async def _get(self, path: str, token: str) -> Any:
        headers = _API_HEADERS | {"authorization": f"Bearer {token}"}
        return await self._ask("GET", f"{self._api_url}{path}", headers=headers)

    async def _ask(self, method: str, url: str, **options: Any) -> Any:
        try:
            response = await self._http.request(method, url, **options)
        except httpx.HTTPError as error:
            raise GitHubAway(f"{type(error).__name__} at {url.partition('?')[0]}") from error
        if response.status_code in {400, 401, 403, 404, 422}:
            raise GitHubRefused(f"HTTP {response.status_code} at {url.partition('?')[0]}")
        if response.status_code != 200:
            raise GitHubAway(f"HTTP {response.status_code} at {url.partition('?')[0]}")
        try:
            return response.json()
        except ValueError as error:
            raise GitHubAway(f"no JSON at {url.partition('?')[0]}") from error


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{type(value).__name__} in place of a text")
