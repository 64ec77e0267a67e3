"""Entries of a list: what a search found, and how many images an entry stands for."""

from collections.abc import Iterator, Sequence
from itertools import islice

from sqlalchemy import Connection, func, select

from core.text import fold
from services.history.grams import Sought
from services.history.models import Entry, EntryPage, ListedImage, Match, Wanted
from services.history.search import Search
from services.history.search_rows import Hit
from services.history.search_statements import many, parts_for
from services.history.store import images, in_a_group, shown

COUNTED = 1000  # hits, up to which a total is exact


def search_page(connection: Connection, user_id: str, wanted: Wanted, limit: int, offset: int) -> EntryPage:
    search = Search(connection, user_id, wanted)
    hits = search.hits()
    skipped = _number(hits, offset)
    # One more than is shown or counted tells whether there are more.
    chosen = list(islice(hits, limit + 1))
    has_more, total = len(chosen) > limit, skipped + len(chosen)
    if has_more and total <= COUNTED:
        total = total + _number(hits, COUNTED + 1 - total) if wanted.grouped else search.count(COUNTED + 1)
    listed = _listed(connection, [hit.id for hit in chosen[:limit]])
    found = tuple(Entry(image, _match(wanted.sought, image)) for image in listed)
    return EntryPage(
        with_group_sizes(connection, user_id, found) if wanted.grouped else found,
        total=min(total, COUNTED),
        total_is_capped=total > COUNTED,
        limit=limit,
        offset=offset,
        has_more=has_more,
    )


def _number(hits: Iterator[Hit], most: int) -> int:
    """How many of the next ones there are, up to `most`."""
    return sum(1 for _ in islice(hits, most))


def _match(sought: Sought, image: ListedImage) -> Match:
    return "exact" if sought.text in fold(image.prompt) else "words"


def with_group_sizes(connection: Connection, user_id: str, found: Sequence[Entry]) -> tuple[Entry, ...]:
    """How many images of the group are listed, whether they fit the filter or not."""
    keys = [key for entry in found if (key := _key(entry.image)) is not None]
    there = (images.c.user_id == user_id, shown, in_a_group, images.c.group_id.in_(keys))
    counted = connection.execute(select(images.c.group_id, func.count()).where(*there).group_by(images.c.group_id))
    sizes: dict[str, int] = {row[0]: row[1] for row in counted}
    return tuple(entry._replace(group_size=sizes.get(_key(entry.image) or "", 1)) for entry in found)


def _key(image: ListedImage) -> str | None:
    """As the column `group_id`."""
    return image.session_id if image.session_id is not None else image.task_id


def _listed(connection: Connection, image_ids: Sequence[str]) -> list[ListedImage]:
    """In the order of the ids."""
    rows = connection.execute(parts_for(connection).listed, {"ids": many(connection, image_ids)})
    found = {row.id: ListedImage._make(row) for row in rows}
    return [found[image_id] for image_id in image_ids]
