"""The statements of a search over images: which of them are hits."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, or_, tuple_

from core.clock import Milliseconds
from services.history.models import Wanted
from services.history.search_statements import Kind, Shape, is_postgresql, many, statements_for
from services.history.store import asked_of, images

Key = tuple[Milliseconds, str]
SMALL_TAIL = 1500
SMALLEST: Key = (-1, "")
GREATEST: Key = (2**63 - 1, "")
FoundRow = Row[Any]


class Hit(NamedTuple):
    """Hits compare by time, then by id. `group`: what the images of one chat or batch have in common, or its own id."""

    created_at: Milliseconds
    id: str
    slot: int | None
    duration: float
    group: str


class Rows:
    """Images of a user that fit a filter and may be hits of one kind."""

    def __init__(self, connection: Connection, user_id: str, wanted: Wanted, kind: Kind) -> None:
        self._connection = connection
        self._sought = wanted.sought
        self._kind = kind
        asked, words = asked_of(wanted.where), () if kind == "exact" else wanted.sought.longest_words
        shape = Shape(
            kind=kind,
            words=len(words),
            asked=tuple(asked),
            among_few=wanted.among_few,
            needs_all=wanted.grouped or wanted.by_duration,
            on_postgresql=is_postgresql(connection),
        )
        self._statements = statements_for(shape)
        self._values = asked | {"user_id": user_id, "text": wanted.sought.text}
        self._values |= {f"word{number}": word for number, word in enumerate(words)}

    def small_tail(self) -> dict[Kind, list[Hit]] | None:
        """Of kind "any": all hits among those without a slot (among all, when they are few), by their kinds, so that
        they are read once; None when they are too many for that.
        """
        rows = self._all(self._statements.newest, _from(GREATEST, SMALL_TAIL))
        if len(rows) == SMALL_TAIL:
            return None
        hits: dict[Kind, list[Hit]] = {"any": [], "exact": [], "words": []}
        for *found, folded in map(tuple, rows):
            is_exact = self._sought.text in folded
            if is_exact or self._sought.has_words(folded):
                hit = Hit._make(found)
                hits["any"].append(hit)
                hits["exact" if is_exact else "words"].append(hit)
        return hits

    def unsealed(self, bound: Key, limit: int, *, ascending: bool) -> tuple[list[Hit], Key | None]:
        """From a bound on the next hits among those without a slot (among all, when they are few), and where to go on;
        None at the end.
        """
        statement = self._statements.oldest if ascending else self._statements.newest
        rows = self._all(statement, _from(bound, limit))
        return self._hits(rows), None if len(rows) < limit else (rows[-1].created_at, rows[-1].id)

    def checked(self, slots: Sequence[int]) -> list[Hit]:
        """Those in these slots that are hits, in no order."""
        return self._hits(self._all(self._statements.checked, self._in(slots))) if slots else []

    def sure(self, slots: Sequence[int]) -> list[Hit]:
        """The same where grams have told that they are, as long as the image is there."""
        return [Hit._make(row) for row in self._all(self._statements.present, self._in(slots))] if slots else []

    def count_unsealed(self, most: int) -> int:
        if self._kind == "exact":
            return self._number(self._statements.count_newest, _from(GREATEST, most))
        count, bound = 0, GREATEST
        while count < most:
            hits, further = self.unsealed(bound, most, ascending=False)
            count += len(hits)
            if further is None:
                break
            bound = further
        return count

    def count_checked(self, slots: Sequence[int]) -> int:
        if not slots:
            return 0
        if self._kind == "exact":
            return self._number(self._statements.count_checked, self._in(slots))
        return len(self.checked(slots))

    def count_sure(self, slots: Sequence[int]) -> int:
        return self._number(self._statements.count_present, self._in(slots)) if slots else 0

    def next_by_duration(self, after: Hit | None, limit: int, *, ascending: bool) -> list[tuple[Hit, str | None]]:
        """All that fit the filter in their order, whether they are hits or not, with their folded prompts."""
        statement = self._statements.quickest if ascending else self._statements.slowest
        if after is not None:
            duration, key = images.c.duration, tuple_(images.c.created_at, images.c.id)
            # The first condition says nothing more, but leads to the place in the index.
            beyond = duration >= after.duration if ascending else duration <= after.duration
            statement = statement.where(beyond, or_(duration != after.duration, key < after[:2]))
        return [(Hit._make(row[:-1]), row.folded) for row in self._all(statement, {"limit": limit})]

    def is_hit(self, folded: str | None) -> bool:
        """None: of an image that a process of an earlier version has made, until the worker has folded it."""
        if folded is None:
            return False
        has_text = self._sought.text in folded
        if self._kind == "exact" or (has_text and self._kind == "any"):
            return has_text
        return not has_text and self._sought.has_words(folded)

    def _all(self, statement: Select[Any], values: dict[str, Any]) -> Sequence[FoundRow]:
        return self._connection.execute(statement, self._values | values).all()

    def _number(self, statement: Select[Any], values: dict[str, Any]) -> int:
        return int(self._connection.execute(statement, self._values | values).scalar_one())

    def _in(self, slots: Sequence[int]) -> dict[str, Any]:
        return {"slots": many(self._connection, slots)}

    def _hits(self, rows: Iterable[FoundRow]) -> list[Hit]:
        # What is exact the database has chosen already.
        return [Hit._make(row[:-1]) for row in rows if self._kind == "exact" or self.is_hit(row.folded)]


def _from(bound: Key, limit: int) -> dict[str, Any]:
    return {"bound_at": bound[0], "bound_id": bound[1], "limit": limit}
