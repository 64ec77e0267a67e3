"""The statements of a search over images, each built once for every shape that a search can have.

Building one anew takes SQLAlchemy longer than a database takes to run it, and a search has several.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import orjson
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Select,
    and_,
    any_,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    union_all,
)

from services.history.blocks import block_postings
from services.history.models import ListedImage
from services.history.segments import postings
from services.history.store import FILTERS, ORDERS, hidden, images, shown, unsealed

# Which images are hits: those with the text; those with its words alone; both.
Kind = Literal["exact", "words", "any"]

# Slots in the trash; beyond it, it is not worth knowing which segments they are in.
MOST_TRASHED = 2000
_HIT_COLUMNS: tuple[ColumnElement[Any], ...] = (
    images.c.created_at,
    images.c.id,
    images.c.search_slot,
    images.c.duration,
    func.coalesce(images.c.group_id, images.c.id).label("group"),
)
# The same where nothing but the index of slots is to be read.
_KEY_COLUMNS: tuple[ColumnElement[Any], ...] = (
    images.c.created_at,
    images.c.id,
    images.c.search_slot,
    literal(0.0).label("duration"),
    images.c.id.label("group"),
)
_MINE = images.c.user_id == bindparam("user_id")
_KEY = tuple_(images.c.created_at, images.c.id)
_BOUND = tuple_(bindparam("bound_at", type_=images.c.created_at.type), bindparam("bound_id", type_=images.c.id.type))


def is_postgresql(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def many(connection: Connection, values: Collection[Any]) -> Any:
    """For a value of `_among`: one for all of them, so that a statement is the same however many they are."""
    return list(values) if is_postgresql(connection) else orjson.dumps(list(values)).decode()


def _among(column: ColumnElement[Any], name: str, *, on_postgresql: bool) -> ColumnElement[bool]:
    if on_postgresql:
        return column == any_(bindparam(name, type_=ARRAY(column.type)))
    return column.in_(select(func.json_each(bindparam(name)).table_valued("value").c.value))


class Parts:
    """What does not depend on what is searched for."""

    def __init__(self, *, on_postgresql: bool) -> None:
        self._on_postgresql = on_postgresql
        kept = (postings, postings.c.segment_id, "segments"), (block_postings, block_postings.c.block_id, "blocks")
        whole, begun = [], []
        for table, owner, owners in kept:
            there = select(literal_column(f"'{owners}'"), owner, table.c.gram, table.c.slots)
            there = there.where(self._among(owner, owners))
            whole.append(there.where(self._among(table.c.gram, "grams")))
            begun.append(there.where(table.c.gram >= bindparam("start"), table.c.gram < bindparam("end")))
        # Of some `segments` and `blocks`: the slots of some `grams`, and those of grams from `start` to `end`.
        self.whole_grams = union_all(*whole)
        self.begun_grams = union_all(*begun)
        trashed = select(images.c.search_slot).where(_MINE, hidden, images.c.search_slot.is_not(None))
        self.trashed_slots = trashed.limit(bindparam("limit"))
        listed = select(*(images.c[name] for name in ListedImage._fields))
        self.listed = listed.where(self._among(images.c.id, "ids"))

    def _among(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        return _among(column, name, on_postgresql=self._on_postgresql)


@lru_cache(2)
def _parts(*, on_postgresql: bool) -> Parts:
    return Parts(on_postgresql=on_postgresql)


def parts_for(connection: Connection) -> Parts:
    return _parts(on_postgresql=is_postgresql(connection))


def trashed_slots(connection: Connection, user_id: str) -> Sequence[int] | None:
    """Those whose image lies in the trash or is being removed for good; None when they are too many to be told."""
    values = {"user_id": user_id, "limit": MOST_TRASHED}
    found = connection.execute(parts_for(connection).trashed_slots, values).scalars().all()
    return None if len(found) == MOST_TRASHED else found


@dataclass(frozen=True)
class Shape:
    """`words`: how many the database looks for. `asked`: fields of the filter. `needs_all`: of a hit, not its key
    alone.
    """

    kind: Kind
    words: int
    asked: tuple[str, ...]
    among_few: bool
    needs_all: bool
    on_postgresql: bool


class Statements:
    """Values: `user_id`, `text`, `word0` and so on, those of the filter, and what each says."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    @cached_property
    def newest(self) -> Select[Any]:
        return self._beyond(ascending=False)

    @cached_property
    def oldest(self) -> Select[Any]:
        return self._beyond(ascending=True)

    @cached_property
    def count_newest(self) -> Select[Any]:
        return _counted(self.newest)

    @cached_property
    def checked(self) -> Select[Any]:
        """In these `slots`."""
        return self._chosen().where(self._in_slots)

    @cached_property
    def count_checked(self) -> Select[Any]:
        return _counted(self.checked)

    @cached_property
    def present(self) -> Select[Any]:
        """In these `slots`, where grams have told that they are hits. What has a slot is the user's and listed; it may
        lie in the trash. Grams have told its mode.
        """
        return self._present(_HIT_COLUMNS if self._shape.needs_all else _KEY_COLUMNS)

    @cached_property
    def count_present(self) -> Select[Any]:
        return self._present((func.count(),))

    @cached_property
    def quickest(self) -> Select[Any]:
        """The first by duration, `limit` of them, hits or not."""
        return self._fitting(_MINE).order_by(*ORDERS["fastest"]).limit(bindparam("limit"))

    @cached_property
    def slowest(self) -> Select[Any]:
        return self._fitting(_MINE).order_by(*ORDERS["slowest"]).limit(bindparam("limit"))

    @cached_property
    def _in_slots(self) -> ColumnElement[bool]:
        return _among(images.c.search_slot, "slots", on_postgresql=self._shape.on_postgresql)

    def _present(self, columns: tuple[ColumnElement[Any], ...]) -> Select[Any]:
        dates = (FILTERS[name] for name in self._shape.asked if name in ("date_from", "date_to"))
        return select(*columns).where(images.c.deleted_at.is_(None), *dates, self._in_slots)

    def _beyond(self, *, ascending: bool) -> Select[Any]:
        """The next `limit` from a bound on of those without a slot, in their order, by which databases find the index
        that is made for them.
        """
        tail = _MINE if self._shape.among_few else and_(_MINE, unsealed)
        after = _KEY > _BOUND if ascending else _KEY < _BOUND
        chosen = self._chosen().where(tail, after).order_by(*ORDERS["oldest" if ascending else "newest"])
        return chosen.limit(bindparam("limit"))

    def _chosen(self) -> Select[Any]:
        """Those that fit and, as far as the database can tell, are hits."""
        if self._shape.kind == "exact":
            return self._fitting(self._has("text"))
        chosen = self._fitting(*(self._has(f"word{number}") for number in range(self._shape.words)))
        return chosen.where(~self._has("text")) if self._shape.kind == "words" else chosen

    def _fitting(self, *which: ColumnElement[bool]) -> Select[Any]:
        fits = (FILTERS[name] for name in self._shape.asked)
        return select(*_HIT_COLUMNS, images.c.folded).where(shown, *fits, *which)

    def _has(self, name: str) -> ColumnElement[bool]:
        position = func.strpos if self._shape.on_postgresql else func.instr
        return position(images.c.folded, bindparam(name, type_=images.c.folded.type)) > literal_column("0")


def _counted(statement: Select[Any]) -> Select[Any]:
    return select(func.count()).select_from(statement.with_only_columns(images.c.id).subquery())


@lru_cache(512)
def statements_for(shape: Shape) -> Statements:
    return Statements(shape)
