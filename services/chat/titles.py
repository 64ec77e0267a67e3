"""What a chat is called when nobody has named it: the beginning of its first message."""

import re
import unicodedata

MOST_CHARACTERS = 60
UNTITLED = "Chat"  # of one in which nothing was said yet
_ELLIPSIS = "…"
_JOINER = "\u200d"
_BREAKS = re.compile(r"[\s、。，；：！？,;:!?]+")


def title_of(prompt: str) -> str:
    """On one line, cut between two words; where a script writes none, between two letters as they are seen."""
    text = " ".join(prompt.split())
    if len(text) <= MOST_CHARACTERS:
        return text
    cut = _end_of_letter(text, MOST_CHARACTERS - 1)
    # Not so short that it says nothing.
    ends = [found.start() for found in _BREAKS.finditer(text, cut // 2, cut + 1) if found.start() <= cut]
    return text[: ends[-1] if ends else cut] + _ELLIPSIS


def _end_of_letter(text: str, end: int) -> int:
    """The last place up to `end` where nothing is cut off that belongs to the letter before."""
    while end > 1 and (_belongs_to_former(text[end]) or text[end - 1] == _JOINER):
        end -= 1
    return end


def _belongs_to_former(character: str) -> bool:
    """Accents and vowel signs, joiners, variants and skin tones."""
    return unicodedata.category(character) in {"Mn", "Mc", "Me"} or character == _JOINER or "🏻" <= character <= "🏿"
