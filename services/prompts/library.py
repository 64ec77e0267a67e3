"""The library: what comes with the service, and what an installation has added to it or put in its place.

It is read when somebody first looks at it, and again ten minutes later at the earliest: a process that nobody asks for
prompts holds none.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from core.clock import Milliseconds
from core.errors import StorageUnavailable
from core.logging import get_logger
from services.prompts.library_file import BrokenLibraryFile, LibraryFile, key_of, parse, prompts_of
from services.prompts.models import CATEGORIES, LANGUAGES, LibraryPrompt, searchable
from services.storage.base import Storage
from services.storage.errors import ObjectNotFound

REREAD_AFTER_MS = 10 * 60 * 1000
RETRY_AFTER_MS = 60 * 1000
READ_TIMEOUT_SECONDS = 10.0

log = get_logger(__name__)


@dataclass(frozen=True)
class Shelved:
    """A prompt, and the text that a search looks into."""

    prompt: LibraryPrompt
    text: str


class Library:
    """`clock` gives milliseconds since 1970."""

    def __init__(self, storage: Storage, clock: Callable[[], Milliseconds]) -> None:
        self._storage = storage
        self._clock = clock
        self._shelf: tuple[Shelved, ...] = ()
        self._ids: frozenset[str] = frozenset()
        self._due_at: Milliseconds = 0
        self._reading = asyncio.Lock()

    async def shelf(self) -> tuple[Shelved, ...]:
        """All of it, by category and language. A storage that is away leaves what was read last, or is built in."""
        if self._clock() >= self._due_at:
            async with self._reading:
                if self._clock() >= self._due_at:
                    await self._read()
        return self._shelf

    async def has(self, prompt_id: str) -> bool:
        await self.shelf()
        return prompt_id in self._ids

    async def _read(self) -> None:
        places = [(category, language) for category in CATEGORIES for language in LANGUAGES]
        read = await asyncio.gather(*(self._place(*place) for place in places))
        found: dict[str, LibraryPrompt] = {}
        for prompt in (prompt for prompts, _ in read for prompt in prompts):
            found.setdefault(prompt.id, prompt)
        is_whole = all(whole for _, whole in read)
        self._due_at = self._clock() + (REREAD_AFTER_MS if is_whole else RETRY_AFTER_MS)
        if not is_whole and len(found) < len(self._shelf):
            return
        self._ids = frozenset(found)
        self._shelf = tuple(
            Shelved(prompt, searchable(prompt.title, prompt.prompt, prompt.tags)) for prompt in found.values()
        )

    async def _place(self, category: str, language: str) -> tuple[list[LibraryPrompt], bool]:
        """The prompts of a category and language, and whether the installation's own file could be read."""
        is_whole, own = True, None
        try:
            async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                own = await self.own_file(category, language)
        except (BrokenLibraryFile, StorageUnavailable, TimeoutError) as error:
            log.warning("prompt library not read", object=key_of(category, language), reason=repr(error))
            is_whole = False
        files = await _files(category, language, own)
        return [prompt for file in files for prompt in prompts_of(file, category, language)], is_whole

    async def own_file(self, category: str, language: str) -> LibraryFile | None:
        """The installation's; None where it has none. Raises BrokenLibraryFile or StorageUnavailable."""
        key = key_of(category, language)
        try:
            return parse(key, await self._storage.get(key))
        except ObjectNotFound:
            return None


async def _files(category: str, language: str, own: LibraryFile | None) -> list[LibraryFile]:
    if own is not None and own.replace:
        return [own]
    built_in = await asyncio.to_thread(built_in_file, category, language)
    return [built_in] if own is None else [built_in, own]


def built_in_file(category: str, language: str) -> LibraryFile:
    """What comes with the service."""
    file = resources.files("services.prompts").joinpath("library", f"{category}_{language}.json")
    return parse(file.name, file.read_bytes())
