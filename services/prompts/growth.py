"""Growing the library: the text model writes what an installation's files lack, a few prompts at a time.

Each answer is kept before the next is asked for, and what is there is counted first: a run that broke off is gone on
with, and one that has nothing left to do asks for nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from core.clock import now_ms
from core.logging import get_logger
from core.text import fold
from services.prompts import instructions
from services.prompts.instructions import Draft, Drafts
from services.prompts.library import Library, built_in_file
from services.prompts.library_file import JSON, Entry, LibraryFile, key_of, render
from services.prompts.models import CATEGORIES, LANGUAGES, Category, Language
from services.providers.service import ProviderService
from services.providers.structured import Question, StructuredText
from services.storage.base import Storage

GENERATED_SOURCE = "generated"
AT_ONCE = 10
# Answers in a row that bring nothing new; a model that repeats itself must not be asked for ever.
BARREN_ANSWERS = 2

log = get_logger(__name__)


@dataclass
class Growth:
    """What a run has done: how many prompts there are by file, and how many of them are new."""

    wanted: int
    tell: Callable[[str], None]
    there: dict[str, int] = field(default_factory=dict)
    added: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        rows = [f"{key}: {count} prompts, {self.added.get(key, 0)} of them new" for key, count in self.there.items()]
        return [*rows, f"in all {sum(self.there.values())} prompts, {sum(self.added.values())} of them new"]

    @property
    def is_complete(self) -> bool:
        places = len(CATEGORIES) * len(LANGUAGES)
        return len(self.there) == places and all(count >= self.wanted for count in self.there.values())


class LibraryGrower:
    def __init__(self, storage: Storage, library: Library, providers: ProviderService, text: StructuredText) -> None:
        self._storage = storage
        self._library = library
        self._providers = providers
        self._text = text

    async def run(self, growth: Growth) -> None:
        """Fill up each category and language to `growth.wanted`, the built-in ones counted. One after the other: a key
        on its free tier would be limited otherwise.

        Raises ApiKeyRequired without an operator's key, ProviderError or StorageUnavailable; BrokenLibraryFile for a
        file that it will not write over.
        """
        for category in CATEGORIES:
            for language in LANGUAGES:
                await self._fill(category, language, growth)

    async def _fill(self, category: Category, language: Language, growth: Growth) -> None:
        key = key_of(category, language)
        file = await self._library.own_file(category, language) or LibraryFile(prompts=[])
        built_in = [] if file.replace else built_in_file(category, language).prompts
        known = {fold(entry.prompt.strip()): entry for entry in (*built_in, *file.prompts)}
        growth.there[key] = len(known)
        barren = 0
        while len(known) < growth.wanted and barren < BARREN_ANSWERS:
            missing = growth.wanted - len(known)
            drafts = await self._write(category, language, missing, list(known.values()))
            new = _new_among(drafts, known, missing)
            barren = 0 if new else barren + 1
            if not new:
                continue
            file = file.model_copy(update={"prompts": [*file.prompts, *new.values()]})
            await self._storage.put(key, render(file, category, language, now_ms()), content_type=JSON)
            known |= new
            growth.there[key] = len(known)
            growth.added[key] = growth.added.get(key, 0) + len(new)
            growth.tell(f"{key}: {len(new)} more, {len(known)} of {growth.wanted}")

    async def _write(self, category: Category, language: Language, missing: int, known: list[Entry]) -> list[Draft]:
        route = self._providers.route_text(own_key=None, operator_key_allowed=True)
        count = min(AT_ONCE, missing)
        titles = [entry.description for entry in known if entry.description]
        given = orjson.dumps({"category": category, "there_are_already": titles}).decode()
        question = Question(instructions.generating(count, language), given)
        return (await self._text.ask(route, question, Drafts)).prompts


def _new_among(drafts: Sequence[Draft], known: Mapping[str, Entry], limit: int) -> dict[str, Entry]:
    """At most `limit` that there are not yet, each once, by what they say."""
    new: dict[str, Entry] = {}
    for draft in drafts:
        name = fold(draft.prompt)
        if name not in known and name not in new and len(new) < limit:
            new[name] = Entry(prompt=draft.prompt, description=draft.title, tags=draft.tags, source=GENERATED_SOURCE)
    return new
