"""history.json: of the bucket a list, of the old app's own disk `{"images": [...]}`; the newest entry first."""

from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any

import orjson

from services.history.object_metadata import read_object_metadata
from services.legacy.models import LegacyEntry, Shelf
from services.legacy.report import Report
from services.storage.base import Reader
from services.storage.errors import ObjectNotFound
from services.storage.keys import holds_image, is_key

_ALIKE = ("mode", "duration", "created_at", "session_id", "chat_index")
"""Fields that an object's metadata has under the same names, as it has these:"""
_SETTINGS = ("aspect_ratio", "resolution")


class HistoryIndex:
    """The entries of one history, by the key of their object in the source. What is taken is not there any more."""

    def __init__(self, entries: Sequence[LegacyEntry]) -> None:
        self._entries = dict[str, tuple[LegacyEntry, ...]]()
        for entry in entries:
            self._entries[entry.key] = (*self._entries.get(entry.key, ()), entry)

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def take(self, key: str) -> tuple[LegacyEntry, ...]:
        """The newest first; none where there is none."""
        return self._entries.pop(key, ())

    def rest(self) -> list[LegacyEntry]:
        """One for each key that nobody took."""
        return [entries[0] for entries in self._entries.values()]


async def read_index(source: Reader, shelf: Shelf, zone: tzinfo, report: Report) -> HistoryIndex:
    """What cannot be read of it is reported, and what can be stands; empty where there is none."""
    try:
        data = await source.get(shelf.index_key)
    except ObjectNotFound:
        return HistoryIndex(())
    entries = list[LegacyEntry]()
    for number, fields in enumerate(_listed(data, shelf.index_key, report)):
        entry = _entry(shelf, fields, zone)
        if entry is None:
            report.found_odd("broken_entry", shelf.index_key, f"number {number + 1}")
        elif not shelf.holds(entry.key):
            report.found_odd("elsewhere", entry.key, f"in {shelf.index_key}")
        else:
            entries.append(entry)
    return HistoryIndex(entries)


def read_json(data: bytes, key: str, report: Report) -> Any:
    """None for what is none, which is reported."""
    try:
        return orjson.loads(data.removeprefix(BOM_UTF8))
    except orjson.JSONDecodeError as error:
        report.found_odd("broken_json", key, str(error))
        return None


def text_of(value: Any) -> str | None:
    """A text that a database takes, which a NUL character is not in; None for anything else, and for nothing."""
    return value.replace("\0", "") or None if isinstance(value, str) else None


def _listed(data: bytes, key: str, report: Report) -> list[Any]:
    document = read_json(data, key, report)
    found = document.get("images") if isinstance(document, dict) else document
    if isinstance(found, list):
        return found
    if document is not None:
        report.found_odd("broken_json", key, "no list of images")
    return []


def _entry(shelf: Shelf, fields: Any, zone: tzinfo) -> LegacyEntry | None:
    """None for what names no image."""
    if not isinstance(fields, dict):
        return None
    key = _key(shelf, fields)
    if key is None:
        return None
    in_bucket = text_of(fields.get("r2_key")) or ""
    is_in_bucket = _is_image(in_bucket) and Shelf("", shelf.folder_id).holds(in_bucket)
    return LegacyEntry(
        key=key,
        target=in_bucket if is_in_bucket else shelf.target(key),
        is_in_bucket=is_in_bucket,
        prompt=text_of(fields.get("prompt")) or "",
        told=read_object_metadata(_as_metadata(fields), zone),
        text_response=text_of(fields.get("text_response")),
        thinking=text_of(fields.get("thinking")),
    )


def _key(shelf: Shelf, fields: Mapping[str, Any]) -> str | None:
    """In the bucket an entry has its whole key, on the disk where its file lies below the history's folder."""
    whole, file = text_of(fields.get("key")), text_of(fields.get("filename"))
    if whole is not None:
        key = shelf.root + whole
    elif file is not None:
        key = shelf.prefix + file.replace("\\", "/")
    else:
        return None
    return key if _is_image(key) else None


def _as_metadata(fields: Mapping[str, Any]) -> dict[str, str]:
    found = fields.get("settings")
    settings = found if isinstance(found, dict) else {}
    given = {name: fields.get(name) for name in _ALIKE} | {name: settings.get(name) for name in _SETTINGS}
    return {name: str(value) for name, value in given.items() if isinstance(value, str | int | float)}


def _is_image(key: str) -> bool:
    return is_key(key) and holds_image(key)
