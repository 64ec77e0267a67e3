"""Prompts that people had marked, on the old app's disk alone."""

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any

from core.clock import from_text, now_ms
from services.accounts.owners import Claim, Evidence, OwnerRegistry
from services.legacy.documents import tags_of, title_of
from services.legacy.entries import read_json, text_of
from services.legacy.images import Source
from services.legacy.report import Report
from services.prompts.models import MarkedPrompt
from services.prompts.service import PromptService
from services.storage.keys import is_folder_id

FOLDER = "data/prompts/favorites/"
FILE = "/favorites.json"
SHARED = "shared"
NO_CATEGORY = "other"
MOST_CHARACTERS = 100


class FavoriteMover:
    """`shared_to`: as for histories. An account that nobody has signed in to yet is made, to be found by its folder."""

    def __init__(self, source: Source, owners: OwnerRegistry, prompts: PromptService, shared_to: str | None) -> None:
        self._source = source
        self._owners = owners
        self._prompts = prompts
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
            elif folder_id is not None and prompts and not dry_run:
                report.favorites_kept += await self._keep(folder_id, prompts)

    async def _keep(self, folder_id: str, prompts: Sequence[MarkedPrompt]) -> int:
        claim = Claim(None, folder_id)
        since = min(prompt.marked_at for prompt in prompts)
        owners = await self._owners.find_or_make({claim: Evidence(since, stays=True)})
        return await self._prompts.take_in(owners.ids[claim], prompts)


def favorites_in(data: bytes, key: str, zone: tzinfo, report: Report) -> list[MarkedPrompt]:
    """Each prompt once, the one that was marked last first."""
    listed = read_json(data, key, report)
    if not isinstance(listed, list):
        if listed is not None:
            report.found_odd("broken_json", key, "no list of prompts")
        return []
    found = dict[str, MarkedPrompt]()
    for number, fields in enumerate(listed):
        favorite = _favorite(fields, zone)
        if favorite is None:
            report.found_odd("broken_entry", key, f"number {number + 1}")
        else:
            found.setdefault(favorite.prompt, favorite)
    return list(found.values())


def _favorite(fields: Any, zone: tzinfo) -> MarkedPrompt | None:
    prompt = text_of(fields.get("prompt")) if isinstance(fields, dict) else None
    if prompt is None:
        return None
    title = text_of(fields.get("title")) or title_of(prompt, text_of(fields.get("description")))
    return MarkedPrompt(
        title=title[:MOST_CHARACTERS],
        prompt=prompt,
        category=(text_of(fields.get("category")) or NO_CATEGORY)[:MOST_CHARACTERS],
        tags=tuple(tags_of(fields)),
        marked_at=from_text(text_of(fields.get("favorited_at")), zone) or now_ms(),
    )
