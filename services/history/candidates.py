"""Which slots of a user's segments may hold hits of a search, by the grams that their images have."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection

from services.history.grams import WIDE, mode_gram
from services.history.models import Wanted
from services.history.postings import everything, nothing, unpack
from services.history.search_statements import Kind, many, parts_for
from services.history.segments import Segment

if TYPE_CHECKING:
    from pyroaring import BitMap

# Segments that are read together at first, and how many times as many with each further step: what is frequent is found
# in the first ones, what is rare needs all.
AT_FIRST, STEP = 6, 3


class Candidates(NamedTuple):
    """Slots of a segment: those whose grams tell that they hold hits, and those that have to be looked at."""

    sure: "BitMap"
    unsure: "BitMap"

    @property
    def number(self) -> int:
        return len(self.sure) + len(self.unsure)


class CandidateIndex:
    """Of one search. `segments`: in the order in which they will be asked for; some of them are read together."""

    def __init__(self, connection: Connection, wanted: Wanted, segments: Sequence[Segment]) -> None:
        self.segments = segments
        self._connection = connection
        self._parts = parts_for(connection)
        self._text = wanted.sought.text_grams()
        self._words = wanted.sought.word_grams() if wanted.sought.words else None
        self._modes = () if wanted.where.mode is None else (mode_gram(wanted.where.mode),)
        self._unread = [segment.id for segment in segments if segment.state == "sealed"]
        self._next = AT_FIRST
        # By segment: those that have the text's grams, and those that have the words'.
        self._read: dict[int, tuple[BitMap, BitMap]] = {}

    def may_be_sure(self, kind: Kind) -> bool:
        """Whether grams may tell of any hit that it is one."""
        return self._text.suffice or (kind != "exact" and self._words is not None and self._words.suffice)

    def unsure_kind(self, kind: Kind) -> Kind:
        """What those are that grams do not tell of, if hits they are: such with the text, where grams tell of words."""
        tells_of_words = self._words is not None and self._words.suffice
        return "exact" if kind == "any" and tells_of_words else kind

    def of(self, segment: Segment, kind: Kind) -> Candidates:
        if segment.state != "sealed":
            return Candidates(nothing(), everything(segment.size))
        while segment.id not in self._read:
            self._read_some()
        text, words = self._read[segment.id]
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
        whole = self._whole(some, {*self._text.whole, *words, *self._modes})
        begun = [] if self._words is None else [self._begun(some, start) for start in self._words.starts]
        for segment_id in some:
            there = whole[segment_id]
            text = _common(*(there.get(gram) for gram in (*self._text.whole, *self._modes)))
            with_words = nothing()
            if self._words is not None:
                with_words = _common(
                    *(there.get(gram) for gram in (*words, *self._modes)), *(found.get(segment_id) for found in begun)
                )
            self._read[segment_id] = text, with_words

    def _whole(self, segment_ids: Collection[int], grams: Collection[str]) -> dict[int, dict[str, "BitMap"]]:
        """By segment and gram."""
        values = {"segments": many(self._connection, segment_ids), "grams": many(self._connection, grams)}
        found: dict[int, dict[str, BitMap]] = defaultdict(dict)
        for segment_id, gram, slots in self._connection.execute(self._parts.whole_grams, values).all():
            found[segment_id][gram] = unpack(slots)
        return found

    def _begun(self, segment_ids: Collection[int], start: str) -> dict[int, "BitMap"]:
        """By segment: the slots that have any gram which begins so."""
        # Words are narrow, so this comes after all those that begin so; text is in the order of code points everywhere.
        values = {"segments": many(self._connection, segment_ids), "start": start, "end": start + WIDE}
        found: dict[int, BitMap] = defaultdict(nothing)
        for segment_id, slots in self._connection.execute(self._parts.begun_grams, values).all():
            found[segment_id] |= unpack(slots)
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
