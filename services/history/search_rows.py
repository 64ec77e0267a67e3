"""The statements of a search over images: which of them are hits."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    any_,
    cast,
    func,
    literal,
    or_,
    select,
    tuple_,
)

from core.clock import Milliseconds
from services.history.candidates import Kind
from services.history.models import Wanted
from services.history.store import FILTERS, ORDERS, asked_of, hidden, images, shown, unsealed

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


_COLUMNS = (
    images.c.created_at,
    images.c.id,
    images.c.search_slot,
    images.c.duration,
    func.coalesce(images.c.group_id, images.c.id).label("group"),
)
# The same where nothing but the index of slots is to be read.
_KEYS = (images.c.created_at, images.c.id, images.c.search_slot, literal(0.0), images.c.id.label("group"))


class Rows:
    """Images of a user that fit a filter and may be hits of one kind."""

    def __init__(self, connection: Connection, user_id: str, wanted: Wanted, kind: Kind) -> None:
        self._connection = connection
        self._mine = images.c.user_id == user_id
        self._sought = wanted.sought
        self._kind = kind
        self._values = asked_of(wanted.where)
        self._tail = self._mine if wanted.among_few else and_(self._mine, unsealed)
        self._keys = _COLUMNS if wanted.grouped or wanted.by_duration else _KEYS

    def small_tail(self) -> dict[Kind, list[Hit]] | None:
        """All hits among those without a slot (among all, when they are few), by their kinds, so that they are read
        once; None when they are too many for that.
        """
        rows = self._all(self._beyond(GREATEST, ascending=False).limit(SMALL_TAIL))
        if len(rows) == SMALL_TAIL:
            return None
        hits: dict[Kind, list[Hit]] = {"any": self._hits(rows), "exact": [], "words": []}
        exact = {row.id for row in rows if self._kind == "exact" or self._sought.text in (row.folded or "")}
        for hit in hits["any"]:
            hits["exact" if hit.id in exact else "words"].append(hit)
        return hits

    def unsealed(self, bound: Key, limit: int, *, ascending: bool) -> tuple[list[Hit], Key | None]:
        """From a bound on the next hits among those without a slot (among all, when they are few), and where to go on;
        None at the end.
        """
        rows = self._all(self._beyond(bound, ascending=ascending).limit(limit))
        return self._hits(rows), None if len(rows) < limit else (rows[-1].created_at, rows[-1].id)

    def checked(self, slots: Sequence[int]) -> list[Hit]:
        """Those in these slots that are hits, in no order."""
        return self._hits(self._all(self._chosen().where(self._is_among(slots)))) if slots else []

    def sure(self, slots: Sequence[int]) -> list[Hit]:
        """The same where grams have told that they are, as long as the image is there."""
        return [Hit._make(row) for row in self._all(self._present(self._keys, slots))] if slots else []

    def count_unsealed(self, most: int) -> int:
        return self._count(self._beyond(GREATEST, ascending=False).limit(most))

    def count_checked(self, slots: Sequence[int]) -> int:
        return self._count(self._chosen().where(self._is_among(slots))) if slots else 0

    def count_sure(self, slots: Sequence[int]) -> int:
        return self._number(self._present((func.count(),), slots)) if slots else 0

    def trashed_slots(self, most: int) -> Sequence[int]:
        """Some of those whose image lies in the trash or is being removed for good."""
        slots = select(images.c.search_slot).where(self._mine, hidden, images.c.search_slot.is_not(None))
        return self._connection.execute(slots.limit(most)).scalars().all()

    def next_by_duration(self, after: Hit | None, limit: int, *, ascending: bool) -> list[tuple[Hit, str | None]]:
        """All that fit the filter in their order, whether they are hits or not, with their folded prompts."""
        statement = self._fitting(self._mine).order_by(*ORDERS["fastest" if ascending else "slowest"])
        if after is not None:
            duration, key = images.c.duration, tuple_(images.c.created_at, images.c.id)
            # The first condition says nothing more, but leads to the place in the index.
            beyond = duration >= after.duration if ascending else duration <= after.duration
            statement = statement.where(beyond, or_(duration != after.duration, key < after[:2]))
        return [(Hit._make(row[:-1]), row.folded) for row in self._all(statement.limit(limit))]

    def is_hit(self, folded: str | None) -> bool:
        """None: of an image that a process of an earlier version has made, until the worker has folded it."""
        if folded is None:
            return False
        has_text = self._sought.text in folded
        if self._kind == "exact" or (has_text and self._kind == "any"):
            return has_text
        return not has_text and self._sought.has_words(folded)

    def _all(self, statement: Select[Any]) -> Sequence[FoundRow]:
        return self._connection.execute(statement, self._values).all()

    def _number(self, statement: Select[Any]) -> int:
        return int(self._connection.execute(statement, self._values).scalar_one())

    def _count(self, statement: Select[Any]) -> int:
        if self._kind != "exact":
            return len(self._hits(self._all(statement)))
        return self._number(select(func.count()).select_from(statement.with_only_columns(images.c.id).subquery()))

    def _hits(self, rows: Iterable[FoundRow]) -> list[Hit]:
        # What is exact the database has chosen already.
        return [Hit._make(row[:-1]) for row in rows if self._kind == "exact" or self.is_hit(row.folded)]

    def _fitting(self, *which: ColumnElement[bool]) -> Select[Any]:
        fits = (FILTERS[name] for name in self._values)
        return select(*_COLUMNS, images.c.folded).where(shown, *fits, *which)

    def _beyond(self, bound: Key, *, ascending: bool) -> Select[Any]:
        """Of those without a slot, in their order, by which databases find the index that is made for them."""
        key = tuple_(images.c.created_at, images.c.id)
        after = key > bound if ascending else key < bound
        return self._chosen().where(self._tail, after).order_by(*ORDERS["oldest" if ascending else "newest"])

    def _chosen(self) -> Select[Any]:
        """Those that fit and, as far as the database can tell, are hits."""
        if self._kind == "exact":
            return self._fitting(self._has(self._sought.text))
        chosen = self._fitting(*map(self._has, self._sought.longest_words))
        return chosen.where(~self._has(self._sought.text)) if self._kind == "words" else chosen

    def _present(self, columns: Sequence[ColumnElement[Any]], slots: Sequence[int]) -> Select[Any]:
        """What has a slot is the user's and listed; it may lie in the trash. Grams have told its mode."""
        dates = (FILTERS[name] for name in self._values if name in ("date_from", "date_to"))
        return select(*columns).where(images.c.deleted_at.is_(None), *dates, self._is_among(slots))

    def _has(self, text: str) -> ColumnElement[bool]:
        position = func.strpos if self._is_postgresql else func.instr
        return position(images.c.folded, text) > 0

    def _is_among(self, slots: Sequence[int]) -> ColumnElement[bool]:
        """With one value for all of them, so that the statement is the same however many they are."""
        if self._is_postgresql:
            listed = func.string_to_array(",".join(map(str, slots)), ",")
            return images.c.search_slot == any_(cast(listed, ARRAY(BigInteger)))
        numbers = func.json_each(orjson.dumps(slots).decode()).table_valued("value").c.value
        return images.c.search_slot.in_(select(numbers))

    @property
    def _is_postgresql(self) -> bool:
        return self._connection.dialect.name == "postgresql"
