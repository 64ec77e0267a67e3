"""An image as the history knows it."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from core.clock import Milliseconds

Sort = Literal["newest", "oldest", "fastest", "slowest"]


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
