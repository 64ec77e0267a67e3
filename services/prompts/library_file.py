"""`prompts/library/{category}_{lang}.json`, in the layout of SPEC section 14.

{category, language, prompts: [{prompt, description, tags, source}], count, updated_at, version}; the description is the
prompt's title. With `"replace": true` an installation's file stands in place of the built-in one, else it adds to it.
"""

from datetime import datetime
from typing import Annotated

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from core.clock import Milliseconds, from_datetime, rfc3339
from core.ids import keyed_id
from services.prompts.models import LIBRARY_PREFIX, Language, LibraryPrompt

VERSION = 1
JSON = "application/json"
_TITLE_WORDS = 8
_TITLE_CHARACTERS = 60


def _nothing_for_null(value: object) -> object:
    return "" if value is None else value


_Text = Annotated[str, BeforeValidator(_nothing_for_null)]


class Entry(BaseModel):
    """One prompt as it stands in a file; what else an older app wrote beside it is kept."""

    model_config = ConfigDict(extra="allow")

    prompt: str
    description: _Text = ""
    tags: list[str] = Field(default_factory=list)
    source: _Text = ""


class LibraryFile(BaseModel):
    model_config = ConfigDict(extra="allow")

    prompts: list[Entry]
    updated_at: datetime | None = None
    replace: bool = False


class BrokenLibraryFile(Exception):
    """A file that is none; `str()` says why, in one line."""


def key_of(category: str, language: str) -> str:
    return f"prompts/library/{category}_{language}.json"


def parse(name: str, data: bytes) -> LibraryFile:
    """Raises BrokenLibraryFile, which names it."""
    try:
        return LibraryFile.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BrokenLibraryFile(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def render(file: LibraryFile, category: str, language: Language, now: Milliseconds) -> bytes:
    """With what an older app, or an operator, wrote beside the fields that we know."""
    known = {
        "category": category,
        "language": language,
        "prompts": [entry.model_dump(mode="json") for entry in file.prompts],
        "count": len(file.prompts),
        "updated_at": rfc3339(now),
        "version": VERSION,
        "replace": file.replace,
    }
    return orjson.dumps(file.model_dump(mode="json") | known, option=orjson.OPT_INDENT_2)


def prompts_of(file: LibraryFile, category: str, language: str) -> list[LibraryPrompt]:
    """Without those that say nothing."""
    at = from_datetime(file.updated_at) if file.updated_at is not None else 0
    return [
        LibraryPrompt(
            id=id_of(category, language, entry.prompt),
            title=entry.description.strip() or _first_words(entry.prompt),
            prompt=entry.prompt.strip(),
            category=category,
            language=language,
            tags=tuple(entry.tags),
            source=entry.source or "library",
            created_at=at,
        )
        for entry in file.prompts
        if entry.prompt.strip()
    ]


def id_of(category: str, language: str, prompt: str) -> str:
    return keyed_id(LIBRARY_PREFIX, 0, f"{category}\0{language}\0{prompt.strip()}")


def _first_words(prompt: str) -> str:
    words = " ".join(prompt.split()[:_TITLE_WORDS])
    return words if len(words) <= _TITLE_CHARACTERS else f"{words[: _TITLE_CHARACTERS - 1]}…"
