"""Prompts: the library, one's own, and what the text model writes."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.schemas.common import MAX_OFFSET, Prompt, RequestModel, ShortText, Timestamp, WithImage, no_nul
from api.schemas.generate import EXAMPLE_IMAGES
from core.clock import utc
from services.prompts.instructions import MAX_TAG, MAX_TAGS, MOST_AT_ONCE, Draft, Kind
from services.prompts.models import Language, ListedPrompt, PromptChange, PromptFilter, PromptPage

_MAX_SEARCH = 200
_MOST_VARIATIONS = 10

Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TAG), AfterValidator(no_nul)]
Tags = Annotated[tuple[Tag, ...], Field(max_length=MAX_TAGS, strict=False)]
SearchText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=_MAX_SEARCH), AfterValidator(no_nul)
]
Style = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=_MAX_SEARCH), AfterValidator(no_nul)
]


class PromptsQuery(RequestModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    category: ShortText | None = Field(
        None, description="portrait, product, landscape, art, food or architecture, or one that I have made up"
    )
    search: SearchText | None = Field(None, description="a substring of title, prompt or a tag, any case and width")
    favorites_only: bool = False
    lang: Language | None = Field(None, description="of the library; mine are there in whatever language")
    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)

    def filter(self) -> PromptFilter:
        return PromptFilter(self.category, self.search, self.favorites_only, self.lang)


class PromptRead(BaseModel):
    """One of the library, which is everybody's, or of mine."""

    id: str
    title: str
    prompt: str
    category: str
    lang: Language | None = Field(description="null: one of mine")
    tags: list[str]
    is_favorite: bool
    is_mine: bool
    source: str = Field(description="built-in, generated, what an installation's library says, or user: one of mine")
    created_at: Timestamp

    @classmethod
    def of(cls, prompt: ListedPrompt) -> Self:
        return cls.model_validate(
            vars(prompt) | {"lang": prompt.language, "tags": list(prompt.tags), "created_at": utc(prompt.created_at)}
        )


class CategoryRead(BaseModel):
    category: str
    count: int = Field(description="all that fit the rest of the filter")


class PromptsRead(BaseModel):
    """A page: mine first, the newest before the others, then the library."""

    prompts: list[PromptRead]
    categories: list[CategoryRead]
    total: int = Field(description="all that fit the filter")
    limit: int
    offset: int
    has_more: bool

    @classmethod
    def of(cls, page: PromptPage, limit: int, offset: int) -> Self:
        return cls(
            prompts=[PromptRead.of(prompt) for prompt in page.items],
            categories=[CategoryRead(category=name, count=count) for name, count in sorted(page.categories.items())],
            total=page.total,
            limit=limit,
            offset=offset,
            has_more=offset + len(page.items) < page.total,
        )


class PromptsExportRead(BaseModel):
    """`prompts.json` of an account's export: mine, and those of the library that I like."""

    prompts: list[PromptRead]

    @classmethod
    def of(cls, prompts: list[ListedPrompt]) -> Self:
        return cls(prompts=[PromptRead.of(prompt) for prompt in prompts])


class PromptBody(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "title": "Harbour at dusk",
                "prompt": "A lighthouse at dusk, watercolour",
                "category": "landscape",
                "tags": ["sea", "watercolour"],
            }
        }
    )

    title: ShortText
    prompt: Prompt
    category: ShortText = Field(description="one of the library's, or any other")
    tags: Tags = ()


class PromptChangeBody(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {"title": "Harbour at night"}})

    title: ShortText | None = Field(None, description="left out: as it is")
    prompt: Prompt | None = Field(None, description="left out: as it is")
    category: ShortText | None = Field(None, description="left out: as it is")
    tags: Tags | None = Field(None, description="left out: as they are; all of them else")

    def change(self) -> PromptChange:
        return PromptChange(self.title, self.prompt, self.category, self.tags)


class GenerateBody(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {"category": "food", "style": "noir", "count": 3}})

    category: ShortText
    style: Style | None = None
    count: int = Field(5, ge=1, le=MOST_AT_ONCE, description="the model may write fewer")
    lang: Language | None = Field(None, description="default: by Accept-Language")


class EnhanceBody(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {"prompt": "a lighthouse"}})

    prompt: Prompt
    lang: Language | None = Field(None, description="default: as the prompt is")


class VariationsBody(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {"prompt": "a lighthouse at dusk", "kind": "mood"}})

    prompt: Prompt
    count: int = Field(3, ge=1, le=_MOST_VARIATIONS, description="the model may write fewer")
    kind: Kind | None = Field(None, description="what is varied; default: now this, now that")


class DescribeBody(WithImage):
    model_config = ConfigDict(json_schema_extra={"example": {"image": EXAMPLE_IMAGES[0]}})

    image: str = Field(description="JPEG PNG WebP GIF in base64 or as a data URL")
    lang: Language | None = Field(None, description="default: by Accept-Language")


class DraftRead(BaseModel):
    title: str
    prompt: str
    tags: list[str]


class DraftsRead(BaseModel):
    """Prompts that the text model has written; they are kept nowhere."""

    prompts: list[DraftRead]

    @classmethod
    def of(cls, drafts: list[Draft]) -> Self:
        return cls(prompts=[DraftRead.model_validate(draft.model_dump()) for draft in drafts])


class WrittenRead(BaseModel):
    prompt: str
