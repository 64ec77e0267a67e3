"""Prompts that people had marked, on the old app's disk alone."""

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any, Protocol

from core.clock import from_text
from services.legacy.documents import tags_of, title_of
from services.legacy.entries import read_json, text_of
from services.legacy.images import Source
from services.legacy.models import FavoritePrompt
from services.legacy.report import Report
from services.storage.keys import is_folder_id

FOLDER = "data/prompts/favorites/"
FILE = "/favorites.json"
SHARED = "shared"


class Favorites(Protocol):
    """Where favorites are kept here."""

    async def keep(self, folder_id: str, prompts: Sequence[FavoritePrompt]) -> int:
        """Keep them for the account of a folder, which may have to be made; answers how many it did not have yet."""


class FavoriteMover:
    """`favorites` None: nothing keeps them yet, so they are counted and left. `shared_to`: as for histories."""

    def __init__(self, source: Source, favorites: Favorites | None, shared_to: str | None) -> None:
        self._source = source
        self._favorites = favorites
        self._shared_to = shared_to

    async def move(self, report: Report, *, dry_run: bool) -> None:
        async for info in self._source.storage.list(FOLDER):
            if not info.key.endswith(FILE):
                report.found_odd("unknown", info.key)
                continue
            owner = info.key.removeprefix(FOLDER).removesuffix(FILE)
            folder_id = self._shared_to if owner == SHARED else owner
            prompts = favorites_in(await self._source.storage.get(info.key), info.key, self._source.zone, report)
            report.favorites += len(prompts)
            if folder_id is not None and not is_folder_id(folder_id):
                report.found_odd("no_account", info.key)
            elif folder_id is not None and self._favorites is not None and not dry_run:
                report.favorites_kept += await self._favorites.keep(folder_id, prompts)


def favorites_in(data: bytes, key: str, zone: tzinfo, report: Report) -> list[FavoritePrompt]:
    """Each prompt once, the one that was marked last first."""
    listed = read_json(data, key, report)
    if not isinstance(listed, list):
        if listed is not None:
            report.found_odd("broken_json", key, "no list of prompts")
        return []
    found = dict[str, FavoritePrompt]()
    for number, fields in enumerate(listed):
        favorite = _favorite(fields, zone)
        if favorite is None:
            report.found_odd("broken_entry", key, f"number {number + 1}")
        else:
            found.setdefault(favorite.prompt, favorite)
    return list(found.values())


def _favorite(fields: Any, zone: tzinfo) -> FavoritePrompt | None:
    prompt = text_of(fields.get("prompt")) if isinstance(fields, dict) else None
    if prompt is None:
        return None
    return FavoritePrompt(
        title=text_of(fields.get("title")) or title_of(prompt, text_of(fields.get("description"))),
        prompt=prompt,
        tags=tuple(tags_of(fields)),
        category=text_of(fields.get("category")),
        source=text_of(fields.get("source")),
        favorited_at=from_text(text_of(fields.get("favorited_at")), zone),
    )
