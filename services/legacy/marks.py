"""What was moved in already, whatever has become of it here since: nothing comes back that somebody has deleted."""

from collections.abc import Set

import orjson

from services.storage.base import Storage
from services.storage.errors import ObjectNotFound

DOCUMENTS = "documents"


class Marks:
    """`config/moved_in/{name}.json` for each folder with the ids of its images, and for documents."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def load(self, name: str) -> set[str]:
        try:
            return set(orjson.loads(await self._storage.get(_key(name)))["moved_in"])
        except ObjectNotFound:
            return set()

    async def save(self, name: str, marks: Set[str]) -> None:
        data = orjson.dumps({"moved_in": sorted(marks)})
        await self._storage.put(_key(name), data, content_type="application/json")


def _key(name: str) -> str:
    return f"config/moved_in/{name}.json"
