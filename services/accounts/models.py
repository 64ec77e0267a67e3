"""Who is calling."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from core.clock import Milliseconds

Role = Literal["guest", "user", "admin"]

Scope = Literal["generate", "read"]
SCOPES: tuple[Scope, ...] = ("generate", "read")

SESSION_TTL_SECONDS = 7 * 24 * 3600  # from its last use


@dataclass(frozen=True)
class User:
    """One row of `users`. `folder_id` is where this user's images lie in storage.

    `github_id` None: a guest or a local account. `is_granted_admin`: made an admin by another one, not by ADMIN_LOGINS.
    `blocked_at`: since when an admin keeps them out.
    """

    id: str
    role: Role
    folder_id: str
    created_at: Milliseconds
    login: str | None = None
    name: str | None = None
    email: str | None = None
    avatar_url: str | None = None
    github_id: int | None = None
    is_granted_admin: bool = False
    blocked_at: Milliseconds | None = None


@dataclass(frozen=True)
class UserFilter:
    """`search` in login, name, e-mail and id; None: not asked for."""

    search: str | None = None
    role: Role | None = None
    blocked: bool | None = None


@dataclass(frozen=True)
class Session:
    """One sign-in. `address` and `user_agent` are shown to its owner, to tell sessions apart.

    `blocked` is "1" while an admin keeps its user out, else empty. `sealed_key`: the user's own Google key, encrypted,
    and `masked_key` what may be shown of it; empty without one.
    """

    id: str
    user_id: str
    role: Role
    folder_id: str
    created_at: Milliseconds
    last_active: Milliseconds
    user_agent: str
    address: str
    blocked: str = ""
    sealed_key: str = ""
    masked_key: str = ""


@dataclass(frozen=True)
class Visitor:
    """Whoever is about to sign in. `guest_id`: the guest that they have been here, whose images they keep."""

    address: str
    user_agent: str
    guest_id: str | None = None


@dataclass(frozen=True)
class Caller:
    """A signed-in caller, as far as a request needs to know. `address` is where the request came from.

    A program that calls with a service key is its owner, without a session: `service_key_id` says which key it was, and
    `daily_points` how many points a day it may take; None without a key, or without a cap.
    """

    user_id: str
    role: Role
    folder_id: str
    session_id: str
    address: str
    sealed_key: str = ""
    masked_key: str = ""
    service_key_id: str | None = None
    daily_points: int | None = None

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"


@dataclass(frozen=True)
class ServiceKey:
    """A key for programs, as its owner sees it: `last_characters` tell it from others, the key itself is not kept.

    `daily_points` None: no cap of its own. `last_used_at` to the minute.
    """

    id: str
    user_id: str
    name: str
    last_characters: str
    scopes: tuple[Scope, ...]
    created_at: Milliseconds
    expires_at: Milliseconds | None = None
    daily_points: int | None = None
    last_used_at: Milliseconds | None = None


@dataclass(frozen=True)
class Tokens:
    """What a sign-in gives. `expires_in` in seconds, of the access token."""

    access_token: str
    refresh_token: str
    expires_in: int
    user: User


def local_folder_id(user_id: str) -> str:
    """The folder of accounts that are not GitHub's: 16 hex digits of `md5("local_" + id)` (SPEC section 4)."""
    return _folder_id(f"local_{user_id}")


def github_folder_id(github_id: int) -> str:
    """The folder that this GitHub account has had in the bucket of the app that came before."""
    return _folder_id(f"github_{github_id}")


def _folder_id(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:16]
