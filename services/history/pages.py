"""Pages of a list that nobody searches in, and how many images it has."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ScalarSelect,
    Select,
    and_,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.sql.util import ClauseAdapter

from core.clients.database import Database, Prepared, RowsAndTotal
from core.paging import Page
from services.history.entries import with_group_sizes
from services.history.models import Entry, EntryPage, HistoryFilter, ListedImage, Sort
from services.history.skipping import FAR, skip
from services.history.store import FILTERS, ORDERS, asked_of, images, in_a_group, shown, shown_counts

_COUNTED_BY: dict[str, ColumnElement[bool]] = {
    "mode": shown_counts.c.mode == bindparam("mode"),
    "favorites_only": shown_counts.c.is_favorite.is_(True),
}
DEEP = 1000  # an offset from which on it pays to skip in the index alone


class Pages:
    def __init__(self, database: Database) -> None:
        self._database = database
        # Each statement is built and compiled once: doing it anew costs more than running it.
        self._known: dict[tuple[tuple[str, ...], Sort, bool, bool, bool], Prepared] = {}

    async def page(self, user_id: str, where: HistoryFilter, sort: Sort, limit: int, offset: int) -> Page[ListedImage]:
        skipped = None
        if offset >= FAR and where == HistoryFilter() and sort in ("newest", "oldest"):
            find = partial(skip, user_id=user_id, sort=sort, offset=offset)
            skipped = await self._database.read(find)
        values = {"user_id": user_id, "limit": limit, "offset": offset}
        if skipped is not None:
            values |= {"offset": offset - skipped.number, "beyond": skipped.bound}
        total, rows = await self._rows(where, sort, values, grouped=False)
        return Page(tuple(map(ListedImage._make, rows)), total, limit, offset)

    async def grouped_page(self, user_id: str, where: HistoryFilter, sort: Sort, limit: int, offset: int) -> EntryPage:
        """With one entry for the images of a chat or batch: the first of those that fit."""
        values = {"user_id": user_id, "limit": limit, "offset": offset}
        total, rows = await self._rows(where, sort, values, grouped=True)
        items = [Entry(ListedImage._make(row)) for row in rows]
        found = await self._database.read(partial(with_group_sizes, user_id=user_id, found=items))
        return EntryPage(found, total, False, limit, offset, has_more=offset + len(items) < total)

    async def _rows(
        self, where: HistoryFilter, sort: Sort, values: Mapping[str, Any], *, grouped: bool
    ) -> RowsAndTotal:
        """The total, and rows of ListedImage's fields. `beyond` among the values: the rows, not the total, begin after
        all that were made at that moment; with a `sort` by time.
        """
        asked = asked_of(where)
        shape = (tuple(asked), sort, grouped, values["offset"] >= DEEP, "beyond" in values)
        if shape not in self._known:
            self._known[shape] = self._database.prepared(*_total_and_rows(*shape))
        return await self._database.page(self._known[shape], {**asked, **values})


def _total_and_rows(
    asked: tuple[str, ...], sort: Sort, grouped: bool, deep: bool, begins_beyond: bool
) -> tuple[ColumnElement[int], Select[Any]]:
    fits = _fits(asked)
    total: ColumnElement[int] = _total(asked, fits)
    if grouped:
        total = total - _folded_away(fits)
        fits = and_(fits, ~_is_preceded(fits, sort))
    if begins_beyond:
        beyond: ColumnElement[Any] = bindparam("beyond")
        fits = and_(fits, images.c.created_at > beyond if sort == "oldest" else images.c.created_at < beyond)
    columns = [images.c[name] for name in ListedImage._fields]
    page = select(*columns).where(fits)
    if deep:
        # What is skipped is then skipped in the index alone.
        keys = select(images.c.id).where(fits).order_by(*ORDERS[sort])
        return total, select(*columns).where(images.c.id.in_(_cut(keys))).order_by(*ORDERS[sort])
    return total, _cut(page.order_by(*ORDERS[sort]))


def _cut(rows: Select[Any]) -> Select[Any]:
    return rows.limit(bindparam("limit")).offset(bindparam("offset"))


def _fits(asked: tuple[str, ...]) -> ColumnElement[bool]:
    return and_(images.c.user_id == bindparam("user_id"), shown, *(FILTERS[name] for name in asked))


def _is_preceded(fits: ColumnElement[bool], sort: Sort) -> ColumnElement[bool]:
    """By another one of its group, among those that fit."""
    other = images.alias("other")
    there = ClauseAdapter(other).traverse(and_(fits, in_a_group))
    key, other_key = tuple_(images.c.created_at, images.c.id), tuple_(other.c.created_at, other.c.id)
    is_newer, is_as_long = other_key > key, other.c.duration == images.c.duration
    comes_first: dict[Sort, ColumnElement[bool]] = {
        "newest": is_newer,
        "oldest": other_key < key,
        "fastest": or_(other.c.duration < images.c.duration, and_(is_as_long, is_newer)),
        "slowest": or_(other.c.duration > images.c.duration, and_(is_as_long, is_newer)),
    }
    return and_(in_a_group, exists().where(there, other.c.group_id == images.c.group_id, comes_first[sort]))


def _folded_away(fits: ColumnElement[bool]) -> ScalarSelect[int]:
    """How many of those that fit are not the first one of their group."""
    others = func.count() - func.count(images.c.group_id.distinct())
    return select(others).select_from(images).where(fits, in_a_group).scalar_subquery()


def _total(asked: tuple[str, ...], fits: ColumnElement[bool]) -> ScalarSelect[int]:
    """Out of the counts that the database keeps, where these tell."""
    if not _COUNTED_BY.keys() >= set(asked):
        return select(func.count()).select_from(images).where(fits).scalar_subquery()
    counted = (_COUNTED_BY[name] for name in asked)
    mine = select(cast(func.coalesce(func.sum(shown_counts.c.shown), literal_column("0")), BigInteger))
    return mine.where(shown_counts.c.user_id == bindparam("user_id"), *counted).scalar_subquery()
