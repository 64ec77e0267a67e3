"""The words of prompts: those of the library, and those that people keep for themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from core.clock import Milliseconds
from core.text import fold

Category = Literal["portrait", "product", "landscape", "art", "food", "architecture"]
Language = Literal["en", "zh"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
LANGUAGES: tuple[Language, ...] = get_args(Language)

LIBRARY_PREFIX = "lib"
OWN_SOURCE = "user"


@dataclass(frozen=True)
class LibraryPrompt:
    """One of the library. Its id follows from category, language and text, so it is the same wherever it stands.

    `source`: `built-in`, `generated`, or whatever the installation's file says.
    """

    id: str
    title: str
    prompt: str
    category: str
    language: str
    tags: tuple[str, ...]
    source: str
    created_at: Milliseconds


@dataclass(frozen=True)
class OwnPrompt:
    """One that somebody keeps. Its category is theirs to name. `expires_at`: a guest's; None for all others."""

    id: str
    user_id: str
    title: str
    prompt: str
    category: str
    tags: tuple[str, ...]
    created_at: Milliseconds
    expires_at: Milliseconds | None = None


@dataclass(frozen=True)
class ListedPrompt:
    """What somebody sees in their list; `language` None: one of their own."""

    id: str
    title: str
    prompt: str
    category: str
    language: str | None
    tags: tuple[str, ...]
    source: str
    created_at: Milliseconds
    is_mine: bool
    is_favorite: bool


@dataclass(frozen=True)
class MarkedPrompt:
    """One that somebody had marked elsewhere."""

    title: str
    prompt: str
    category: str
    tags: tuple[str, ...]
    marked_at: Milliseconds


@dataclass(frozen=True)
class PromptFilter:
    """`search`: a substring of title, prompt or a tag, any case and width. `language` is about the library alone."""

    category: str | None = None
    search: str | None = None
    favorites_only: bool = False
    language: str | None = None


@dataclass(frozen=True)
class PromptPage:
    """`categories`: how many there are of each under the rest of the filter."""

    items: tuple[ListedPrompt, ...]
    total: int
    categories: Mapping[str, int]


@dataclass(frozen=True)
class PromptChange:
    """None: stays as it is."""

    title: str | None = None
    prompt: str | None = None
    category: str | None = None
    tags: tuple[str, ...] | None = None


def searchable(title: str, prompt: str, tags: tuple[str, ...]) -> str:
    """All that a search looks into. Nothing that is searched for has a line end, so nothing is found across fields."""
    return "\n".join(fold(" ".join(part.split("\n"))) for part in (title, prompt, *tags))
