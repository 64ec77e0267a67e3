"""Layer 1: which of up to some ten thousand banned keywords stands in a prompt, and where the keywords come from.

Writing systems fall in two: those that separate words (Latin, Cyrillic, Greek, …), whose words must stand alone to
match, and those that do not (Chinese, Japanese, Thai, …; also Korean, which glues particles to its words), in which a
keyword may stand anywhere. A text's "shape" tells them apart, one letter of shape a character.
"""

import asyncio
import re
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable
from importlib import resources
from typing import NamedTuple

import ahocorasick
import orjson

from core.clock import Milliseconds
from core.errors import StorageUnavailable
from core.logging import get_logger
from services.storage.base import Storage
from services.storage.errors import ObjectNotFound

KEYWORDS_KEY = "config/banned_keywords.json"
REREAD_AFTER_MS = 3_600_000
RETRY_AFTER_MS = 60_000
READ_TIMEOUT_SECONDS = 10.0
SHORTEST_SPELLED = 4

_SEPARATED, _RUNNING, _HYPHEN, _OTHER = "wc-."
_HYPHENS = "-_\N{HYPHEN}\N{MINUS SIGN}"
_FILLERS = "\N{HANGUL CHOSEONG FILLER}\N{HANGUL JUNGSEONG FILLER}\N{HANGUL FILLER}\N{HALFWIDTH HANGUL FILLER}"
_SOUTH_EAST_ASIAN = (range(0x0E00, 0x10A0), range(0x1780, 0x1800))  # Thai, Lao, Tibetan, Myanmar; Khmer

_TOKEN = re.compile(r"w+|c+")
# A chain is what may be one word taken apart: tokens with one hyphen between, or single characters with anything
# between. Whole words with a space between are none, since "the pen is red" is harmless.
_CHAIN = re.compile(r"(?:(?<!w)w++|(?<!c)c++)(?:(?:-|(?<!ww)(?<!cc)[-.]++(?!ww|cc))?(?:w++|c++))+")

_logger = get_logger(__name__)


def _is_invisible(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cc":
        return not character.isspace()
    if category == "Mn":
        return "VARIATION SELECTOR" in unicodedata.name(character, "")
    return category == "Cf" or character in _FILLERS


def _is_combining(character: str) -> bool:
    """Tell the marks that go with any script from those, such as Hindi's vowels, that are letters of their own."""
    category = unicodedata.category(character)
    return category in ("Mn", "Me") and unicodedata.name(character, "").startswith("COMBINING")


def _bare(letter: str) -> str:
    decomposed = unicodedata.normalize("NFD", letter)
    return unicodedata.normalize("NFC", "".join(part for part in decomposed if not _is_combining(part)))


def _without_stray_marks(text: str) -> str:
    """Free letters of marks that no spelling has: after NFKC a real accent is part of its letter.

    A letter with a stray mark loses its real ones, too, since piles of marks are decoration.
    """
    stray = {character for character in set(text) if _is_combining(character)}
    if not stray:
        return text
    letters: list[str] = []
    for character in text:
        if character not in stray:
            letters.append(character)
        elif letters:
            letters[-1] = _bare(letters[-1])
    return "".join(letters)


def normalise(text: str) -> str:
    """Bring keywords and prompts to one form: no case, width, invisible characters, stray marks or runs of space."""
    invisible = {ord(character): None for character in set(text) if _is_invisible(character)}
    if invisible:
        text = text.translate(invisible)
    # Folding can undo the composition: capital I with a dot becomes i and a dot.
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(_without_stray_marks(text).split())


def _shape_of(character: str) -> str:
    if character in _HYPHENS:
        return _HYPHEN
    if unicodedata.category(character)[0] not in "LMN":
        return _OTHER
    wide = unicodedata.east_asian_width(character) == "W"
    running = wide or any(ord(character) in block for block in _SOUTH_EAST_ASIAN)
    return _RUNNING if running else _SEPARATED


class _Shapes(dict[int, str]):
    """The shape of each character that was ever asked for, by its code point."""

    def __missing__(self, code_point: int) -> str:
        shape = self[code_point] = _shape_of(chr(code_point))
        return shape


def _bytewise(text: str) -> str:
    """Spell a text in its UTF-8 bytes, a character each.

    pyahocorasick goes through a node's letters one by one: with thousands of Chinese letters in the first node,
    a Chinese text takes ten times as long as with the few bytes that they start with.
    """
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def _bytewise_shape(text: str) -> str:
    return text.translate({ord(letter): _shape_of(letter) * len(_bytewise(letter)) for letter in set(text)})


class _Entry(NamedTuple):
    """A keyword in an automaton, its length in bytes. An anchored side may not touch a letter that continues it."""

    length: int
    anchored_left: bool
    anchored_right: bool
    keyword: str


class KeywordMatcher:
    """Finds keywords in texts, in time that hardly depends on how many keywords there are.

    `keywords` in any case and width; blank ones are ignored. A word matches as a whole word, a phrase (with a space)
    and a keyword of a script without spaces anywhere. Each of at least SHORTEST_SPELLED letters also matches spaced
    out (`n s f w`, whatever letters stand around) or hyphenated (`ns-fw`).
    """

    def __init__(self, keywords: Iterable[str]) -> None:
        self._shapes = _Shapes()
        self._literal = ahocorasick.Automaton()
        self._spelled = ahocorasick.Automaton()
        for keyword in keywords:
            self._add(keyword)
        self._literal.make_automaton()
        self._spelled.make_automaton()

    def _add(self, keyword: str) -> None:
        text = normalise(keyword)
        if not text:
            return
        shape = text.translate(self._shapes)
        word_left, word_right = shape[0] == _SEPARATED, shape[-1] == _SEPARATED
        phrase = " " in text
        literal = _bytewise(text)
        if literal not in self._literal:
            entry = _Entry(len(literal), word_left and not phrase, word_right and not phrase, keyword)
            self._literal.add_word(literal, entry)
        letters = "".join(text[token.start() : token.end()] for token in _TOKEN.finditer(shape))
        spelled = _bytewise(letters)
        # Numbers are no words: `19-89` is a range.
        if len(letters) >= SHORTEST_SPELLED and not letters.isnumeric() and spelled not in self._spelled:
            self._spelled.add_word(spelled, _Entry(len(spelled), word_left, word_right, keyword))

    def find(self, text: str) -> str | None:
        """Return a keyword that stands in the text, as it was given, or None."""
        text = normalise(text)
        return self._find_literal(text) or self._find_spelled(text)

    def _find_literal(self, text: str) -> str | None:
        if not self._literal:
            return None
        shape = ""
        entry: _Entry
        for last, entry in self._literal.iter(_bytewise(text)):
            shape = shape or _bytewise_shape(text)
            start, stop = last + 1 - entry.length, last + 1
            if entry.anchored_left and shape[start - 1 : start] == _SEPARATED:
                continue
            if entry.anchored_right and shape[stop : stop + 1] == _SEPARATED:
                continue
            return entry.keyword
        return None

    def _find_spelled(self, text: str) -> str | None:
        if not self._spelled:
            return None
        shape = text.translate(self._shapes)
        for chain in _CHAIN.finditer(shape):
            found = self._find_in_chain(text, shape, chain.start(), chain.end())
            if found is not None:
                return found
        return None

    def _find_in_chain(self, text: str, shape: str, start: int, stop: int) -> str | None:
        letters = ""
        edges, gaps = {0}, set()
        for token in _TOKEN.finditer(shape, start, stop):
            if token.start() > start:
                gaps.add(len(letters))
            letters += _bytewise(text[token.start() : token.end()])
            edges.add(len(letters))
            start = token.end()
        entry: _Entry
        for last, entry in self._spelled.iter(letters):
            begin, end = last + 1 - entry.length, last + 1
            if entry.anchored_left and begin not in edges:
                continue
            if entry.anchored_right and end not in edges:
                continue
            # Without a gap in it, it is not taken apart, and the literal keywords have spoken.
            if not gaps.isdisjoint(range(begin + 1, end)):
                return entry.keyword
        return None


def builtin_keywords() -> tuple[str, ...]:
    """The short list that comes with the service: one a line, lines that start with # aside."""
    text = resources.files("services.moderation").joinpath("builtin_keywords.txt").read_text("utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def parse_keywords(data: bytes) -> list[str]:
    """Raises ValueError unless it is `{"keywords": [text, …]}`."""
    document = orjson.loads(data.removeprefix(BOM_UTF8))
    keywords = document.get("keywords") if isinstance(document, dict) else None
    if not isinstance(keywords, list) or not all(isinstance(keyword, str) for keyword in keywords):
        raise ValueError('not {"keywords": [text, …]}')
    return keywords


class KeywordSource:
    """Keeps the matcher of the bucket's keyword list, else of `banned_keywords` and the built-in list.

    The list is read again when an hour has passed, behind the back of the requests; one that cannot be read is tried
    again after a minute, and until then the last good one holds.
    """

    def __init__(self, storage: Storage, banned_keywords: Iterable[str], clock: Callable[[], Milliseconds]) -> None:
        self._storage = storage
        self._banned_keywords = tuple(banned_keywords)
        self._clock = clock
        self._matcher: KeywordMatcher | None = None
        self._due_at: Milliseconds = 0
        self._reading: asyncio.Task[KeywordMatcher] | None = None

    async def matcher(self) -> KeywordMatcher:
        """Return the matcher to use now; waits only while there is none at all."""
        if self._matcher is not None and self._clock() < self._due_at:
            return self._matcher
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        if self._matcher is None:
            # All wait for the same reading, so one caller who hangs up must not end it.
            return await asyncio.shield(self._reading)
        return self._matcher

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read(self) -> KeywordMatcher:
        try:
            keywords = await self._fetch()
        except (StorageUnavailable, TimeoutError, ValueError) as error:
            _logger.warning("banned_keywords_unreadable", object=KEYWORDS_KEY, error=repr(error))
            self._due_at = self._clock() + RETRY_AFTER_MS
            if self._matcher is not None:
                return self._matcher
            keywords = None
        else:
            self._due_at = self._clock() + REREAD_AFTER_MS
        self._matcher = await asyncio.to_thread(self._build, keywords)
        return self._matcher

    async def _fetch(self) -> list[str] | None:
        """Return the bucket's list, None where it has none."""
        try:
            async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                return parse_keywords(await self._storage.get(KEYWORDS_KEY))
        except ObjectNotFound:
            return None

    def _build(self, keywords: list[str] | None) -> KeywordMatcher:
        if keywords is None:
            return KeywordMatcher((*self._banned_keywords, *builtin_keywords()))
        return KeywordMatcher(keywords)
