"""An image as the history knows it."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from core.clock import Milliseconds
from services.history.grams import Sought

Sort = Literal["newest", "oldest", "fastest", "slowest"]
Match = Literal["exact", "words"]


@dataclass(frozen=True)
class Image:
    """One row of `images`, and the content of its record in storage.

    `key` is the storage key of the bytes, `duration` in seconds, `size` in bytes. `listed` False: kept for its link
    alone. `expires_at`: when it goes by itself. `deleted_at`: since when it lies in the trash.
    """

    id: str
    user_id: str
    folder_id: str
    key: str
    mode: str
    prompt: str
    aspect_ratio: str
    resolution: str
    provider: str
    model: str
    duration: float
    created_at: Milliseconds
    width: int
    height: int
    size: int
    mime_type: str
    call_id: str
    listed: bool = True
    negative_prompt: str | None = None
    seed: int | None = None
    safety_level: str | None = None
    session_id: str | None = None
    chat_index: int | None = None
    task_id: str | None = None
    text_response: str | None = None
    thinking: str | None = None
    search_sources: str | None = None
    is_favorite: bool = False
    expires_at: Milliseconds | None = None
    deleted_at: Milliseconds | None = None


class ListedImage(NamedTuple):
    """What a list shows of an image: fields of `Image`, without the long texts and what is for us alone.

    `key` is part of a link into a public bucket.
    """

    id: str
    prompt: str
    mode: str
    aspect_ratio: str
    resolution: str
    provider: str
    model: str
    duration: float
    created_at: Milliseconds
    session_id: str | None
    chat_index: int | None
    task_id: str | None
    is_favorite: bool
    width: int
    height: int
    size: int
    mime_type: str
    key: str


@dataclass(frozen=True)
class HistoryFilter:
    """Times are inclusive at the start, exclusive at the end."""

    mode: str | None = None
    session_id: str | None = None
    favorites_only: bool = False
    date_from: Milliseconds | None = None
    date_to: Milliseconds | None = None


@dataclass(frozen=True)
class Wanted:
    """What to search for, and how its hits are to be ordered and told apart.

    `sort` None: exact hits first, each kind newest first. `grouped`: of a chat or batch only the first one.
    """

    sought: Sought
    where: HistoryFilter
    sort: Sort | None
    grouped: bool

    @property
    def by_duration(self) -> bool:
        return self.sort in ("fastest", "slowest")

    @property
    def ascending(self) -> bool:
        return self.sort == "oldest"

    @property
    def among_few(self) -> bool:
        """Favorites, and the images of one chat, have an index of their own and are read one by one."""
        return self.where.favorites_only or self.where.session_id is not None


class Entry(NamedTuple):
    """`match`: how a search found it. `group_size`: how many images its chat or batch has, itself included."""

    image: ListedImage
    match: Match | None = None
    group_size: int | None = None


@dataclass(frozen=True)
class EntryPage:
    """`total` of a search counts up to a thousand; `total_is_capped`: there are more."""

    entries: tuple[Entry, ...]
    total: int
    total_is_capped: bool
    limit: int
    offset: int
    has_more: bool
