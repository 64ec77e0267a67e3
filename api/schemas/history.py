"""The history."""

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.common import MAX_OFFSET, PageRead, PlainText, RequestModel, ShortText, Timestamp
from core.clock import from_datetime, rfc3339
from core.paging import Page
from core.text import fold
from services.history.grams import Sought
from services.history.links import LinkService
from services.history.models import EntryPage, HistoryFilter, Image, ListedImage, Match, Sort, Wanted

Mode = Literal["basic", "search", "blend", "style", "batch", "chat", "edit"]
SEARCH_CHARACTERS = 10_000  # a prompt has at most 4,000
MAX_KNOWN_ENTRIES = 2048  # of some 2 KB
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def _moment(value: Any, *, end_of_day: bool) -> datetime:
    """A date, or a time by RFC 3339 (without a zone: UTC). A date as an end takes the whole day in."""
    try:
        if not isinstance(value, str):
            raise ValueError
        if _DAY.fullmatch(value):
            day = date.fromisoformat(value)
            if end_of_day and day == date.max:
                return datetime.max.replace(tzinfo=UTC)  # what "for ever" is often spelled as
            day += timedelta(days=int(end_of_day))
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise PydanticCustomError("bad_format", "neither a date nor a time by RFC 3339") from error


From = Annotated[datetime, BeforeValidator(lambda value: _moment(value, end_of_day=False))]
To = Annotated[datetime, BeforeValidator(lambda value: _moment(value, end_of_day=True))]


class HistoryFields(RequestModel):
    """Which of the caller's images."""

    mode: Mode | None = None
    date_from: From | None = Field(None, description="a date or an RFC 3339 time, inclusive")
    date_to: To | None = Field(None, description="a date, inclusive, or an RFC 3339 time, exclusive")
    session_id: ShortText | None = None
    favorites_only: bool = False

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.date_from and self.date_to and self.date_from > self.date_to:
            raise PydanticCustomError("backwards", "date_from is after date_to")
        return self

    def filter(self) -> HistoryFilter:
        return HistoryFilter(
            mode=self.mode,
            session_id=self.session_id,
            favorites_only=self.favorites_only,
            date_from=from_datetime(self.date_from) if self.date_from else None,
            date_to=from_datetime(self.date_to) if self.date_to else None,
        )


class HistoryQuery(HistoryFields):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)
    search: PlainText | None = Field(
        None,
        max_length=SEARCH_CHARACTERS,
        description="what stands anywhere in a prompt, whatever its case and width; after those come the images whose "
        "prompts have all of its words",
    )
    sort: Sort | None = Field(
        None, description="newest when it is absent; a search then shows exact hits before those by words"
    )
    group: Literal["session"] | None = Field(
        None, description="one entry for the images of a chat or batch: the first of them in this order"
    )

    def wanted(self) -> Wanted | None:
        """What is searched for; None when nothing is."""
        if not self.search:
            return None
        return Wanted(Sought(fold(self.search)), self.filter(), self.sort, self.group is not None)


class DeleteQuery(RequestModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    final: bool = Field(False, description="true: bytes, record and thumbnail go at once, not after TRASH_MINUTES")


class ImageSettingsRead(BaseModel):
    aspect_ratio: str
    resolution: str


class ImageRead(BaseModel):
    """One entry of the history."""

    id: str
    prompt: str
    image_url: str
    thumbnail_url: str
    mode: str
    settings: ImageSettingsRead
    provider: str
    model: str
    duration: float = Field(description="seconds")
    created_at: Timestamp
    session_id: str | None = None
    chat_index: int | None = None
    task_id: str | None = None
    is_favorite: bool
    width: int
    height: int
    size: int = Field(description="bytes")
    mime_type: str

    @classmethod
    def of(cls, image: Image, links: LinkService, base_url: str, now: int) -> Self:
        return cls.model_validate(_fields(image, links, base_url, links.expires_at(now)))


class ImageDetailRead(ImageRead):
    """One entry, whole."""

    text_response: str | None = None
    thinking: str | None = None
    search_sources: str | None = None

    @classmethod
    def of(cls, image: Image, links: LinkService, base_url: str, now: int) -> Self:
        long_texts = {
            "text_response": image.text_response,
            "thinking": image.thinking,
            "search_sources": image.search_sources,
        }
        return cls.model_validate(_fields(image, links, base_url, links.expires_at(now)) | long_texts)


class EntryRead(ImageRead):
    """One entry of a list, with what is told of it there alone."""

    match: Match | None = Field(None, description="in a search: found by the text itself, or by its words")
    group_size: int | None = Field(None, description="with group=session: how many images the chat or batch has")


class HistoryRead(PageRead[EntryRead]):
    total: int = Field(description="all that fit; of a search at most 1,000")
    total_is_capped: bool = Field(description="of a search: there are more than `total`")

    @staticmethod
    def json_of(page: Page[ListedImage] | EntryPage, links: LinkService, base_url: str, now: int) -> bytes:
        """The body of a page. It is asked for more than anything else, so no model is built only to be taken apart."""
        expires_at = links.expires_at(now)
        if isinstance(page, Page):
            items = [_entry(image, None, None, links, base_url, expires_at) for image in page.items]
        else:
            items = [_entry(*entry, links, base_url, expires_at) for entry in page.entries]
        body = {
            "items": items,
            "total": page.total,
            "total_is_capped": isinstance(page, EntryPage) and page.total_is_capped,
            "limit": page.limit,
            "offset": page.offset,
            "has_more": page.has_more,
        }
        return orjson.dumps(body)


@lru_cache(MAX_KNOWN_ENTRIES)
def _entry(
    image: ListedImage,
    match: Match | None,
    group_size: int | None,
    links: LinkService,
    base_url: str,
    expires_at: int,
) -> orjson.Fragment:
    """One entry as JSON. People come back to the page that they have just seen, and its links are still the same."""
    found = {"match": match, "group_size": group_size}
    return orjson.Fragment(orjson.dumps(_fields(image, links, base_url, expires_at) | found))


def _fields(image: Image | ListedImage, links: LinkService, base_url: str, expires_at: int) -> dict[str, Any]:
    image_url, thumbnail_url = links.urls(base_url, image.id, image.key, expires_at)
    return {
        "id": image.id,
        "prompt": image.prompt,
        "image_url": image_url,
        "thumbnail_url": thumbnail_url,
        "mode": image.mode,
        "settings": {"aspect_ratio": image.aspect_ratio, "resolution": image.resolution},
        "provider": image.provider,
        "model": image.model,
        "duration": image.duration,
        "created_at": rfc3339(image.created_at),
        "session_id": image.session_id,
        "chat_index": image.chat_index,
        "task_id": image.task_id,
        "is_favorite": bool(image.is_favorite),
        "width": image.width,
        "height": image.height,
        "size": image.size,
        "mime_type": image.mime_type,
    }
