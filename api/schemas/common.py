"""What several areas share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, StringConstraints
from pydantic_core import PydanticCustomError

from core.paging import Page

Data = TypeVar("Data")

MAX_OFFSET = 2**31 - 1


class RequestModel(BaseModel):
    """Bodies and queries: an unknown field is refused by its name, a value is not bent into another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class WithUploads(RequestModel, ABC):
    """A body with images in it; see `api/uploads`, which reads it."""

    @property
    @abstractmethod
    def uploads(self) -> Sequence[str]:
        """The images, or what stands for them, by their places."""


class WithImages(WithUploads):
    images: list[str]

    @property
    def uploads(self) -> Sequence[str]:
        return self.images


class WithImage(WithUploads):
    image: str

    @property
    def uploads(self) -> Sequence[str]:
        return (self.image,)


class Success(BaseModel):
    success: Literal[True] = True


class Envelope(BaseModel, Generic[Data]):
    """How the generate routes answer."""

    success: Literal[True] = True
    data: Data
    execution_time_ms: int = Field(description="milliseconds from request to answer")


class PageRead(BaseModel, Generic[Data]):
    """A page of a list."""

    items: list[Data]
    total: int = Field(description="all that fit the filter")
    limit: int
    offset: int
    has_more: bool

    @classmethod
    def with_items(cls, items: list[Data], page: Page[Any]) -> Self:
        return cls(items=items, total=page.total, limit=page.limit, offset=page.offset, has_more=page.has_more)


def no_nul(value: str) -> str:
    """What no text of ours may hold."""
    if "\0" in value:
        raise PydanticCustomError("bad_text", "holds a NUL character")
    return value


Prompt = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=4000),
    AfterValidator(no_nul),
    Field(description="1–4,000 characters after trimming"),
]


def _is_text(secret: SecretStr) -> SecretStr:
    """What pydantic asks of a plain text itself."""
    try:
        secret.get_secret_value().encode()
    except UnicodeEncodeError as error:
        raise PydanticCustomError("bad_text", "holds half a character") from error
    return secret


PlainText = Annotated[str, AfterValidator(no_nul)]
SecretText = Annotated[SecretStr, AfterValidator(_is_text)]
ShortText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(no_nul)
]
Timestamp = Annotated[
    datetime,
    PlainSerializer(lambda moment: moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"), return_type=str),
    Field(
        description="RFC 3339, UTC",
        examples=["2026-01-31T12:00:00.000Z"],
        json_schema_extra={"format": "date-time"},
    ),
]
