"""The old layout as it is listed: one history after the other."""

import re
from collections.abc import AsyncIterator

from services.legacy.models import Shelf
from services.reindex.listing import batches, by_stem
from services.reindex.models import Found
from services.reindex.service import BATCH
from services.storage.base import ObjectInfo, Reader

YEARS = "2"  # 2025 and the like
_DAY = re.compile(r"\d{4}/\d\d/\d\d/", re.ASCII)


async def of_users(source: Reader, root: str) -> AsyncIterator[tuple[Shelf, list[Found]]]:
    """All that lies in folders of users, some hundred images at a time, each with the history that it belongs to."""
    together: list[Found] = []
    async for found in by_stem(source.list(f"{root}users/")):
        if together and (len(together) == BATCH or _shelf(root, found) != _shelf(root, together[0])):
            yield _shelf(root, together[0]), together
            together = []
        together.append(found)
    if together:
        yield _shelf(root, together[0]), together


async def of_nobody(source: Reader, root: str) -> AsyncIterator[list[Found]]:
    """What lies in the days' folders of a history without a user."""
    async for batch in batches(by_stem(_in_days(source, root)), BATCH):
        yield batch


async def _in_days(source: Reader, root: str) -> AsyncIterator[ObjectInfo]:
    async for info in source.list(f"{root}{YEARS}"):
        if _DAY.match(info.key, len(root)):
            yield info


def _shelf(root: str, found: Found) -> Shelf:
    return Shelf(root, found.stem.removeprefix(f"{root}users/").partition("/")[0])
