"""The prompt library and the banned keywords: put beside what is here, text by text."""

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from core.clock import now_ms, rfc3339
from services.legacy.entries import read_json, text_of
from services.legacy.images import Source
from services.legacy.marks import DOCUMENTS, Marks
from services.legacy.report import Report
from services.moderation.keywords import KEYWORDS_KEY, parse_keywords
from services.storage.base import Storage
from services.storage.errors import ObjectNotFound

LIBRARY = "prompts/library/"
ON_DISK = "data/prompts/"
TITLE_WORDS = 8
_NAME = re.compile(r"(?P<category>[\w-]+)_(?P<language>[a-z]{2})\.json", re.ASCII)

Merge = Callable[[str, bytes, bytes | None, Report], bytes | None]
"""From the source's key, what it has and what is here to what is to be here; None: nothing changes."""


class DocumentMover:
    def __init__(self, source: Source, storage: Storage) -> None:
        self._source = source
        self._storage = storage
        self._marks = Marks(storage)

    async def move(self, report: Report, *, dry_run: bool) -> None:
        """What was moved before and has not changed since is left, also where somebody has changed it here."""
        marks = await self._marks.load(DOCUMENTS)
        before = frozenset(marks)
        for folder in (LIBRARY, ON_DISK):
            async for info in self._source.storage.list(folder):
                name = info.key.removeprefix(folder)
                if _NAME.fullmatch(name):
                    await self._merge(info.key, LIBRARY + name, _with_prompts, marks, report, dry_run=dry_run)
                elif "/" not in name:
                    report.found_odd("unknown", info.key)
        await self._merge(KEYWORDS_KEY, KEYWORDS_KEY, _with_keywords, marks, report, dry_run=dry_run)
        if marks != before and not dry_run:
            await self._marks.save(DOCUMENTS, marks)

    async def _merge(
        self, key: str, target: str, merge: Merge, marks: set[str], report: Report, *, dry_run: bool
    ) -> None:
        found = await _read(self._source.storage.get, key)
        if found is None:
            return
        mark = f"{key}@{hashlib.sha256(found).hexdigest()[:16]}"
        there = await _read(self._storage.get, target)
        merged = None if mark in marks else merge(key, found, there, report)
        if dry_run:
            return
        if merged is not None:
            await self._storage.put(target, merged, content_type="application/json")
        marks.add(mark)


def title_of(prompt: str, description: str | None) -> str:
    """The old app's prompts had none: their description, else their first words."""
    return description or " ".join(prompt.split()[:TITLE_WORDS])


def tags_of(fields: Mapping[str, Any]) -> list[str]:
    tags = fields.get("tags")
    return [tag for tag in map(text_of, tags) if tag is not None] if isinstance(tags, list) else []


def _with_prompts(key: str, found: bytes, there: bytes | None, report: Report) -> bytes | None:
    """The library of one category and language, with the prompts that are not in it yet at its end."""
    name = key.rpartition("/")[2]
    named = _NAME.fullmatch(name)
    old = _read_library(key, found, report)
    here: dict[str, Any] = {"prompts": []}
    if there is not None:
        here = _read_library(LIBRARY + name, there, report)
    if not old or not here or named is None:
        return None
    known = {prompt["prompt"] for prompt in here["prompts"]}
    new = [prompt for prompt in old["prompts"] if prompt["prompt"] not in known]
    report.library_added += len(new)
    report.library_there += len(old["prompts"]) - len(new)
    if not new:
        return None
    prompts = [*here["prompts"], *new]
    written = {"prompts": prompts, "count": len(prompts), "updated_at": rfc3339(now_ms()), "version": 1}
    return orjson.dumps({**here, **named.groupdict(), **written}, option=orjson.OPT_INDENT_2)


def _read_library(key: str, data: bytes, report: Report) -> dict[str, Any]:
    """A library with each prompt once, and what else stands in it; empty for what is none."""
    document = read_json(data, key, report)
    listed = document.get("prompts") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(listed, list):
        if document is not None:
            report.found_odd("broken_json", key, "no list of prompts")
        return {}
    prompts = dict[str, dict[str, Any]]()
    for number, fields in enumerate(listed):
        prompt = text_of(fields.get("prompt")) if isinstance(fields, dict) else None
        if prompt is None:
            report.found_odd("broken_entry", key, f"number {number + 1}")
        else:
            texts = {name: text_of(fields.get(name)) or "" for name in ("description", "source")}
            prompts.setdefault(prompt, {**fields, "prompt": prompt, **texts, "tags": tags_of(fields)})
    return {**document, "prompts": list(prompts.values())}


def _with_keywords(key: str, found: bytes, there: bytes | None, report: Report) -> bytes | None:
    try:
        old, here = parse_keywords(found), [] if there is None else parse_keywords(there)
    except ValueError as error:
        report.found_odd("broken_json", key, str(error))
        return None
    new = list(dict.fromkeys(keyword for keyword in old if keyword not in set(here)))
    report.keywords_added += len(new)
    report.keywords_there += len(old) - len(new)
    if there is not None and not new:
        return None
    return orjson.dumps({"keywords": [*here, *new]}, option=orjson.OPT_INDENT_2)


async def _read(get: Callable[[str], Any], key: str) -> bytes | None:
    try:
        data: bytes = await get(key)
    except ObjectNotFound:
        return None
    return data
