"""Which slots of a user's images may hold hits of a search, by the grams that they have."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection

from services.history.grams import WIDE, mode_gram
from services.history.models import Wanted
from services.history.postings import everything, nothing, unpack
from services.history.search_statements import Kind, many, parts_for
from services.history.stretches import Stretch, StretchKey

if TYPE_CHECKING:
    from pyroaring import BitMap

# Stretches that are read together at first, and how many times as many with each further step: what is frequent is
# found in the first ones, what is rare needs all.
AT_FIRST, STEP = 6, 3


class Candidates(NamedTuple):
    """Slots of a stretch: those whose grams tell that they hold hits, and those that have to be looked at."""

    sure: "BitMap"
    unsure: "BitMap"

    @property
    def number(self) -> int:
        return len(self.sure) + len(self.unsure)


class CandidateIndex:
    """Of one search. `stretches`: in the order in which they will be asked for; some of them are read together."""

    def __init__(self, connection: Connection, wanted: Wanted, stretches: Sequence[Stretch]) -> None:
        self.stretches = stretches
        self._connection = connection
        self._parts = parts_for(connection)
        self._text = wanted.sought.text_grams()
        self._words = wanted.sought.word_grams() if wanted.sought.words else None
        self._modes = () if wanted.where.mode is None else (mode_gram(wanted.where.mode),)
        self._unread = [stretch for stretch in stretches if stretch.is_sealed]
        self._next = AT_FIRST
        # Those that have the text's grams, and those that have the words'.
        self._read: dict[Stretch, tuple[BitMap, BitMap]] = {}

    def may_be_sure(self, kind: Kind) -> bool:
        """Whether grams may tell of any hit that it is one."""
        return self._text.suffice or (kind != "exact" and self._words is not None and self._words.suffice)

    def unsure_kind(self, kind: Kind) -> Kind:
        """What those are that grams do not tell of, if hits they are: such with the text, where grams tell of words."""
        tells_of_words = self._words is not None and self._words.suffice
        return "exact" if kind == "any" and tells_of_words else kind

    def of(self, stretch: Stretch, kind: Kind) -> Candidates:
        if not stretch.is_sealed:
            return Candidates(nothing(), everything(stretch.size))
        while stretch not in self._read:
            self._read_some()
        text, words = self._read[stretch]
        if kind == "exact":
            return Candidates(text, nothing()) if self._text.suffice else Candidates(nothing(), text)
        if self._words is None or not self._words.suffice:
            return self._unsure_of_words(text, words, kind)
        if self._text.suffice:
            return Candidates(text | words if kind == "any" else words - text, nothing())
        return Candidates(words, text - words) if kind == "any" else Candidates(words - text, words & text)

    def _unsure_of_words(self, text: "BitMap", words: "BitMap", kind: Kind) -> Candidates:
        if not self._text.suffice:
            return Candidates(nothing(), text | words if kind == "any" else words)
        return Candidates(text if kind == "any" else nothing(), words - text)

    def _read_some(self) -> None:
        some, self._unread = self._unread[: self._next], self._unread[self._next :]
        self._next *= STEP
        words = () if self._words is None else self._words.whole
        owners = {
            "segments": many(self._connection, [stretch.id for stretch in some if not stretch.is_block]),
            "blocks": many(self._connection, [stretch.id for stretch in some if stretch.is_block]),
        }
        whole = self._whole(owners, {*self._text.whole, *words, *self._modes})
        begun = [] if self._words is None else [self._begun(owners, start) for start in self._words.starts]
        for stretch in some:
            there = whole[stretch.key]
            text = _common(*(there.get(gram) for gram in (*self._text.whole, *self._modes)))
            with_words = nothing()
            if self._words is not None:
                with_words = _common(
                    *(there.get(gram) for gram in (*words, *self._modes)), *(found.get(stretch.key) for found in begun)
                )
            self._read[stretch] = text, with_words

    def _whole(self, owners: Mapping[str, Any], grams: Collection[str]) -> dict[StretchKey, dict[str, "BitMap"]]:
        """By stretch and gram."""
        found: dict[StretchKey, dict[str, BitMap]] = defaultdict(dict)
        values = {**owners, "grams": many(self._connection, grams)}
        for kind, owner, gram, slots in self._connection.execute(self._parts.whole_grams, values).all():
            found[kind, owner][gram] = unpack(slots)
        return found

    def _begun(self, owners: Mapping[str, Any], start: str) -> dict[StretchKey, "BitMap"]:
        """By stretch: the slots that have any gram which begins so."""
        # Words are narrow, so this comes after all those that begin so; text is in the order of code points everywhere.
        values = {**owners, "start": start, "end": start + WIDE}
        found: dict[StretchKey, BitMap] = defaultdict(nothing)
        for kind, owner, _gram, slots in self._connection.execute(self._parts.begun_grams, values).all():
            found[kind, owner] |= unpack(slots)
        return found


def _common(*of_grams: "BitMap | None") -> "BitMap":
    there = [slots for slots in of_grams if slots is not None]
    if len(there) < len(of_grams):
        return nothing()
    # The shortest first: most rare ones have nothing in common early.
    first, *others = sorted(there, key=len)
    for slots in others:
        first = first & slots
    return first
