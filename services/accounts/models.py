"""Who is calling."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from core.clock import Milliseconds

Role = Literal["guest", "user", "admin"]


@dataclass(frozen=True)
class User:
    """One row of `users`. `folder_id` is where this user's images lie in storage."""

    id: str
    role: Role
    folder_id: str
    created_at: Milliseconds
    login: str | None = None
    name: str | None = None
    email: str | None = None
    avatar_url: str | None = None


@dataclass(frozen=True)
class Session:
    """One sign-in. `address` and `user_agent` are shown to its owner, to tell sessions apart."""

    id: str
    user_id: str
    role: Role
    folder_id: str
    created_at: Milliseconds
    last_active: Milliseconds
    user_agent: str
    address: str


@dataclass(frozen=True)
class Caller:
    """A signed-in caller, as far as a request needs to know. `address` is where the request came from."""

    user_id: str
    role: Role
    folder_id: str
    session_id: str
    address: str


@dataclass(frozen=True)
class Tokens:
    """What a sign-in gives. `expires_in` in seconds, of the access token."""

    access_token: str
    refresh_token: str
    expires_in: int
    user: User


def local_folder_id(user_id: str) -> str:
    """The folder of accounts that are not GitHub's: 16 hex digits of `md5("local_" + id)` (SPEC section 4)."""
    return hashlib.md5(f"local_{user_id}".encode(), usedforsecurity=False).hexdigest()[:16]
