"""Service keys: what programs call with on behalf of the user who made the key.

A key is 256 random bits, so its SHA-256 is all that is kept: nobody can guess what it was made from, and changing
SECRET_KEY locks no program out.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from core.clients.database import Database
from core.clock import Milliseconds, now_ms
from core.errors import AppError, FieldProblem, Forbidden, NotFound, Unauthorized, ValidationFailed
from core.ids import new_id
from core.logging import get_logger
from services.accounts.models import Caller, Scope, ServiceKey
from services.accounts.service_key_rows import Owner, add_key, count_keys, find_key, keys_of, note_use, remove_key
from services.accounts.users import get_user

PREFIX = "nbk_"
MAX_KEYS = 50  # of one user
USE_NOTED_EVERY_MS = 60_000
_RANDOM_BYTES = 32
_SHOWN_CHARACTERS = 4

log = get_logger(__name__)


@dataclass(frozen=True)
class KeyWish:
    """What a new key is to be: `expires_at` None: never; `daily_points` None: no cap of its own."""

    name: str
    scopes: tuple[Scope, ...]
    expires_at: Milliseconds | None
    daily_points: int | None


@dataclass(frozen=True)
class KeyHolder:
    """Who calls with a service key, and what the key opens."""

    caller: Caller
    scopes: tuple[Scope, ...]


class ServiceKeys:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._notes: dict[str, asyncio.Task[None]] = {}

    async def create(self, caller: Caller, wish: KeyWish) -> tuple[ServiceKey, str]:
        """A new key and its text, which is told this once.

        Raises Forbidden for too many keys, ValidationFailed for an end that has passed.
        """
        now = now_ms()
        if wish.expires_at is not None and wish.expires_at <= now:
            raise ValidationFailed([FieldProblem("expires_at", "past")])
        text = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        key = ServiceKey(
            id=new_id("key"),
            user_id=caller.user_id,
            name=wish.name,
            last_characters=text[-_SHOWN_CHARACTERS:],
            scopes=wish.scopes,
            created_at=now,
            expires_at=wish.expires_at,
            daily_points=wish.daily_points,
        )
        await self._database.write(lambda connection: _add(connection, key, _hash(text)))
        log.info("service key made", service_key_id=key.id)
        return key, text

    async def of(self, caller: Caller) -> Sequence[ServiceKey]:
        """The caller's keys, the newest first."""
        return await self._database.read(lambda connection: keys_of(connection, caller.user_id))

    async def revoke(self, caller: Caller, key_id: str) -> None:
        """The key stops working at once, and nothing of it stays. Raises NotFound."""
        if not await self._database.write(lambda connection: remove_key(connection, caller.user_id, key_id)):
            raise NotFound(f"service key {key_id}")
        log.info("service key revoked", service_key_id=key_id)

    async def authenticate(self, text: str, *, address: str) -> KeyHolder:
        """Whom this key speaks for. Raises Unauthorized for one that is unknown, revoked or past its end, and
        Forbidden when its owner is blocked.
        """
        found = await self._database.read(lambda connection: find_key(connection, _hash(text)))
        if found is None:
            raise Unauthorized("invalid_service_key")
        key, owner = found
        now = now_ms()
        if key.expires_at is not None and key.expires_at <= now:
            raise Unauthorized("service_key_expired")
        if owner.blocked_at is not None:
            raise Forbidden("blocked")
        self._note_use(key, now)
        return KeyHolder(_caller(key, owner, address), key.scopes)

    async def drain(self) -> None:
        """Let the notes under way be written."""
        await asyncio.gather(*self._notes.values())

    def _note_use(self, key: ServiceKey, now: Milliseconds) -> None:
        """At most once a minute, and no call waits for it."""
        if key.id in self._notes or now - (key.last_used_at or 0) < USE_NOTED_EVERY_MS:
            return
        self._notes[key.id] = asyncio.create_task(self._write_use(key.id, now))

    async def _write_use(self, key_id: str, now: Milliseconds) -> None:
        try:
            await self._database.write(lambda connection: note_use(connection, key_id, now))
        except AppError as error:
            log.warning("use of a service key not noted", service_key_id=key_id, reason=str(error))
        finally:
            del self._notes[key_id]


def _add(connection: Connection, key: ServiceKey, key_hash: str) -> None:
    """The user's row is held: two who add at once are counted one after the other, and who leaves takes all keys."""
    if get_user(connection, key.user_id, locked=True) is None:
        raise Unauthorized("account_gone")
    if count_keys(connection, key.user_id) >= MAX_KEYS:
        raise Forbidden("too_many_service_keys", limit=MAX_KEYS)
    add_key(connection, key, key_hash)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _caller(key: ServiceKey, owner: Owner, address: str) -> Caller:
    return Caller(
        user_id=key.user_id,
        role=owner.role,
        folder_id=owner.folder_id,
        session_id="",
        address=address,
        service_key_id=key.id,
        daily_points=key.daily_points,
    )
