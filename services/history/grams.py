"""What a prompt is found by: its folded text, and the grams of it that the index of the search keeps.

A gram is up to six characters in a row: a text of up to six is in a prompt when its gram is, and of longer ones few
prompts have all the grams and not the text. Each word, and its first one, two and three characters, are also kept
behind a mark, so that words are found by how they begin.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module

LONGEST = 6
# Lengths of grams that are collected together: most are long.
PASSES = ((1, 2, 3), (4,), (5,), (6,))
MOST_GRAMS = 12  # of one text that is sought; what more of them would tell apart, the texts themselves do
LONGEST_START = 3  # of a word; longer starts are found among the words themselves
LONGEST_WORD = 24  # what comes after that in a word is not kept
# The first character of CJK Radicals: Han, kana, Hangul and emoji all come after it, and none of them separates words.
WIDE = "\u2e80"
# Marks of grams that are no text: folding leaves no capital letters of ASCII.
_WORD_START = "W"
_MODE = "M"
_NARROW_WORD = rf"[^\W_{WIDE}-\U0010ffff]"
_WORDS = re.compile(f"{_NARROW_WORD}+")
_HAN = "\u3400-\u9fff\U00020000-\U0003ffff"
_SOUGHT = re.compile(rf"(?P<han>[{_HAN}]+)|{_NARROW_WORD}+|[^\W_{_HAN}\0-{chr(ord(WIDE) - 1)}]+")


def mode_gram(mode: str) -> str:
    """So that a filter by mode narrows a search before any row is read."""
    return _MODE + mode


def grams_of(folded: str, mode: str, lengths: Collection[int]) -> set[str]:
    """Those of one of the PASSES by which an image is found; words and the mode are in the first."""
    grams: set[str] = set()
    for length in lengths:
        grams.update(_in_a_row(folded, length))
    if 1 in lengths:
        for word in _WORDS.findall(folded):
            grams.update(_WORD_START + word[:length] for length in (1, 2, LONGEST_START, LONGEST_WORD))
        grams.add(mode_gram(mode))
    return grams


def _in_a_row(text: str, length: int) -> Iterator[str]:
    return map("".join, zip(*(text[start:] for start in range(length)), strict=False))


def _grams_within(text: str) -> list[str]:
    """Those that each text with this one in it has; what follows from others is left out."""
    return list(dict.fromkeys(_in_a_row(text, min(len(text), LONGEST))))


def _some(grams: list[str]) -> list[str]:
    """At most MOST_GRAMS, from all over the text."""
    return grams[:: max(1, -(-len(grams) // MOST_GRAMS))]


@dataclass(frozen=True)
class Grams:
    """What the prompts that are sought have in common: all of `whole`, and of each of `starts` a gram that begins so.

    `suffice`: no other prompt has them.
    """

    whole: tuple[str, ...]
    starts: tuple[str, ...]
    suffice: bool


@dataclass(frozen=True)
class Sought:
    """What somebody searches for, folded: a text, or else all of its words.

    A word of a script that separates words stands at the start of one; any other stands anywhere.
    """

    text: str

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Empty where they would find nothing that the text does not."""
        words: list[str] = []
        for match in _SOUGHT.finditer(self.text):
            # Its dictionary takes 0.2 s and 33 MB, in processes that search for Chinese alone.
            words += import_module("rjieba").cut(match[0]) if match["han"] else [match[0]]
        distinct = tuple(dict.fromkeys(words))
        return () if distinct == (self.text,) else distinct

    @cached_property
    def longest_words(self) -> tuple[str, ...]:
        """A few of them, by which the database chooses."""
        return tuple(sorted(self.words, key=len, reverse=True)[:4])

    def text_grams(self) -> Grams:
        return Grams(tuple(_some(_grams_within(self.text))), (), len(self.text) <= LONGEST)

    def word_grams(self) -> Grams:
        whole: list[str] = []
        starts: list[str] = []
        for word in self.words:
            if word[0] >= WIDE:
                whole += _grams_within(word)
            elif len(word) <= LONGEST_START:
                whole.append(_WORD_START + word)
            else:
                starts.append(_WORD_START + word[:LONGEST_WORD])
        whole = list(dict.fromkeys(whole))
        are_short = all(len(word) <= (LONGEST if word[0] >= WIDE else LONGEST_WORD) for word in self.words)
        suffice = are_short and max(len(whole), len(starts)) <= MOST_GRAMS
        return Grams(tuple(_some(whole)), tuple(_some(starts)), suffice)

    def has_words(self, folded: str) -> bool:
        return all(_begins_one(word, folded) if word[0] < WIDE else word in folded for word in self.words)


def _begins_one(word: str, folded: str) -> bool:
    """Whether a word of the folded text begins with this one."""
    if folded.startswith(word) or f" {word}" in folded:  # by far the most, and told in a tenth of the time
        return True
    return any(found == 0 or not _WORDS.match(folded[found - 1]) for found in _places(word, folded))


def _places(word: str, folded: str) -> Iterator[int]:
    found = folded.find(word)
    while found >= 0:
        yield found
        found = folded.find(word, found + 1)
