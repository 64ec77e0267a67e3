"""Prompts to start from: the library for all, and for each user what they keep and what they like."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from core.clients.database import Database
from core.clock import Milliseconds, now_ms
from core.errors import NotFound
from core.ids import derived_id, new_id
from core.text import fold
from services.accounts.models import Caller
from services.idempotency import Call, IdempotencyKey, IdempotencyService
from services.prompts import store
from services.prompts.errors import TooManyPrompts
from services.prompts.library import Library, Shelved
from services.prompts.models import (
    OWN_SOURCE,
    ListedPrompt,
    MarkedPrompt,
    OwnPrompt,
    PromptChange,
    PromptFilter,
    PromptPage,
)

MOST_OWN = 1_000
EXPIRED_AT_ONCE = 500


class PromptService:
    """`guest_kept_ms`: how long what a guest keeps is kept."""

    def __init__(
        self, database: Database, library: Library, idempotency: IdempotencyService, *, guest_kept_ms: Milliseconds
    ) -> None:
        self._database = database
        self._library = library
        self._idempotency = idempotency
        self._guest_kept_ms = guest_kept_ms

    async def page(self, caller: Caller, where: PromptFilter, limit: int, offset: int) -> PromptPage:
        """Their own first, the newest before the others, then the library in its order."""
        shelf, now = await self._library.shelf(), now_ms()

        def read(connection: Connection) -> tuple[list[tuple[OwnPrompt, bool]], dict[str, int], frozenset[str]]:
            own = store.page(connection, caller.user_id, where, now, limit, offset)
            counts = store.by_category(connection, caller.user_id, where, now)
            return own, counts, store.library_favorites(connection, caller.user_id)

        own, counts, favorites = await self._database.read(read)
        fitting = [entry for entry in shelf if _fits(entry, where, favorites)]
        found = [entry for entry in fitting if where.category in (None, entry.prompt.category)]
        own_total = sum(counts.values()) if where.category is None else counts.get(where.category, 0)
        start = max(0, offset - own_total)
        taken = found[start : start + limit - len(own)]
        return PromptPage(
            items=(
                *(listed_own(prompt, is_favorite=liked) for prompt, liked in own),
                *(_listed(entry, favorites) for entry in taken),
            ),
            total=own_total + len(found),
            categories=Counter(counts) + Counter(entry.prompt.category for entry in fitting),
        )

    async def add(
        self, caller: Caller, title: str, prompt: str, category: str, tags: tuple[str, ...], key: IdempotencyKey | None
    ) -> tuple[ListedPrompt, bool]:
        """Keep a prompt. Answers it, and whether an earlier call with this key has made it.

        Raises TooManyPrompts; Conflict, IdempotencyMismatch, or NotFound when what the key made was deleted since.
        """
        kept = OwnPrompt("", caller.user_id, title, prompt, category, tags, now_ms(), self._expiry(caller))
        if key is None:
            return await self._add(caller, kept, Call(new_id("call"), kept.created_at)), False
        async with self._idempotency.claim(key) as call:
            if call.state == "done":
                return await self.get(caller, prompt_id_of(call)), True
            return await self._add(caller, kept, call), False

    async def get(self, caller: Caller, prompt_id: str) -> ListedPrompt:
        """One of their own. Raises NotFound."""

        def read(connection: Connection) -> tuple[OwnPrompt | None, bool]:
            found = store.get(connection, caller.user_id, prompt_id)
            return found, store.is_favorite(connection, caller.user_id, prompt_id)

        found, is_favorite = await self._database.read(read)
        if found is None:
            raise NotFound(f"prompt {prompt_id}")
        return listed_own(found, is_favorite=is_favorite)

    async def change(self, caller: Caller, prompt_id: str, change: PromptChange) -> ListedPrompt:
        """Raises NotFound, also for what is the library's."""
        asked = {name: value for name, value in vars(change).items() if value is not None}

        def write(connection: Connection) -> None:
            found = store.get(connection, caller.user_id, prompt_id, locked=True)
            if found is None:
                raise NotFound(f"prompt {prompt_id}")
            store.replace(connection, replace(found, **asked))

        await self._database.write(write)
        return await self.get(caller, prompt_id)

    async def remove(self, caller: Caller, prompt_id: str) -> None:
        """Raises NotFound."""
        if not await self._database.write(lambda connection: store.remove(connection, caller.user_id, prompt_id)):
            raise NotFound(f"prompt {prompt_id}")

    async def set_favorite(self, caller: Caller, prompt_id: str, is_favorite: bool) -> None:
        """Of the library or of their own. Raises NotFound."""
        is_shared = await self._library.has(prompt_id)
        now = now_ms() if is_favorite else None

        def write(connection: Connection) -> None:
            # Locked: one that is being removed must not leave a favorite behind.
            if not is_shared and store.get(connection, caller.user_id, prompt_id, locked=True) is None:
                raise NotFound(f"prompt {prompt_id}")
            store.set_favorite(connection, caller.user_id, prompt_id, now, self._expiry(caller))

        await self._database.write(write)

    async def everything(self, caller: Caller) -> list[ListedPrompt]:
        """Their own and the library's that they like, for their export."""
        shelf = await self._library.shelf()

        def read(connection: Connection) -> tuple[list[tuple[OwnPrompt, bool]], frozenset[str]]:
            own = store.everything(connection, caller.user_id)
            return own, store.library_favorites(connection, caller.user_id)

        own, favorites = await self._database.read(read)
        liked = [_listed(entry, favorites) for entry in shelf if entry.prompt.id in favorites]
        return [*(listed_own(prompt, is_favorite=is_liked) for prompt, is_liked in own), *liked]

    async def take_in(self, user_id: str, marked: Sequence[MarkedPrompt]) -> int:
        """Make them favorites: those of the library there, the others as prompts of the user's own, as far as there is
        room. Answers how many were none yet; the same again changes nothing.
        """
        by_text = {entry.prompt.prompt: entry.prompt.id for entry in await self._library.shelf()}

        def take(connection: Connection) -> int:
            taken = 0
            for one in marked:
                own = OwnPrompt(
                    derived_id("prm", user_id, _number_of(one.prompt)), user_id, one.title, one.prompt, one.category,
                    one.tags, one.marked_at,
                )  # fmt: skip
                prompt_id = by_text.get(one.prompt, own.id)
                if store.is_favorite(connection, user_id, prompt_id):
                    continue
                if prompt_id != own.id or store.add(connection, own, MOST_OWN):
                    store.set_favorite(connection, user_id, prompt_id, one.marked_at, None)
                    taken += 1
            return taken

        return await self._database.write(take)

    async def adopt(self, user_id: str, heir: str) -> None:
        """What a guest kept is this user's. Safe to repeat."""
        await self._database.write(lambda connection: store.hand_over(connection, user_id, heir))

    async def forget(self, user_id: str) -> None:
        """Remove all that is kept of somebody who has left."""
        await self._database.write(lambda connection: store.forget_user(connection, user_id))

    async def forget_expired(self) -> int:
        """Remove some of what guests kept and whose time is over; answers how many prompts."""
        now = now_ms()
        return await self._database.write(lambda connection: store.remove_expired(connection, now, EXPIRED_AT_ONCE))

    async def _add(self, caller: Caller, kept: OwnPrompt, call: Call) -> ListedPrompt:
        prompt = replace(kept, id=prompt_id_of(call), created_at=call.started_at)
        if not await self._database.write(lambda connection: store.add(connection, prompt, MOST_OWN)):
            raise TooManyPrompts(MOST_OWN)
        return await self.get(caller, prompt.id)

    def _expiry(self, caller: Caller) -> Milliseconds | None:
        return now_ms() + self._guest_kept_ms if caller.role == "guest" else None


def _number_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def prompt_id_of(call: Call) -> str:
    return derived_id("prm", call.id, 0)


def listed_own(prompt: OwnPrompt, *, is_favorite: bool) -> ListedPrompt:
    return ListedPrompt(
        id=prompt.id,
        title=prompt.title,
        prompt=prompt.prompt,
        category=prompt.category,
        language=None,
        tags=prompt.tags,
        source=OWN_SOURCE,
        created_at=prompt.created_at,
        is_mine=True,
        is_favorite=is_favorite,
    )


def _listed(entry: Shelved, favorites: frozenset[str]) -> ListedPrompt:
    return ListedPrompt(**vars(entry.prompt), is_mine=False, is_favorite=entry.prompt.id in favorites)


def _fits(entry: Shelved, where: PromptFilter, favorites: frozenset[str]) -> bool:
    """By all but the category."""
    return (
        where.language in (None, entry.prompt.language)
        and (not where.favorites_only or entry.prompt.id in favorites)
        and (where.search is None or fold(where.search) in entry.text)
    )
