"""Making images."""

import base64
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.common import Prompt, RequestModel, ShortText, WithImages
from services.generation.models import Generated
from services.history.links import LinkService
from services.providers.base import SafetyLevel
from services.providers.service import Estimate
from services.references.uploads import MAX_IMAGES

# A red square and a blue one, of 8 by 8 pixels.
EXAMPLE_IMAGES = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAMAAADz0U65AAAAA1BMVEXQMDDTbA61AAAADElEQVR42mNgoA4AAABIAAEQRe/SAAAAAElFTkSuQmCC",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAMAAADz0U65AAAAA1BMVEUwUNC/eVfKAAAADElEQVR42mNgoA4AAABIAAEQRe/SAAAAAElFTkSuQmCC",
)

BlendMode = Literal["blend", "style"]
EstimatedMode = Literal["basic", "search", "blend", "style"]

MAX_SEED = 2**31 - 1


class BasicBody(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={"example": {"prompt": "A lighthouse at dusk, watercolour", "aspect_ratio": "16:9"}}
    )

    prompt: Prompt
    aspect_ratio: ShortText | None = Field(
        None, description="1:1 16:9 9:16 4:3 3:4, and what else the model takes; default: DEFAULT_ASPECT_RATIO"
    )
    resolution: ShortText | None = Field(None, description="1K 2K 4K, as the model takes; default: DEFAULT_RESOLUTION")
    safety_level: SafetyLevel | None = Field(
        None,
        description="strict: block low and above, moderate: medium and above, relaxed: only high, none; "
        "default: DEFAULT_SAFETY_LEVEL",
    )
    enable_thinking: bool = Field(False, description="also return the model's thoughts")
    save_to_history: bool = Field(True, description="false: kept 24 h for its link alone, listed nowhere")
    include_base64: bool = Field(False, description="also return the bytes in the answer")
    provider: ShortText | None = Field(None, description="default: gemini where there is a key, else demo")
    model: ShortText | None = Field(None, description="a model's id or alias; default: the provider's")
    negative_prompt: Prompt | None = Field(None, description="refused where the model takes none")
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="refused where the model takes none")


class SearchBody(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={"example": {"prompt": "Today's weather in Lisbon as a postcard", "aspect_ratio": "16:9"}}
    )

    prompt: Prompt
    aspect_ratio: ShortText | None = Field(
        None, description="1:1 16:9 9:16 4:3 3:4, and what else the model takes; default: DEFAULT_ASPECT_RATIO"
    )
    safety_level: SafetyLevel | None = Field(None, description="as in /basic")
    save_to_history: bool = Field(True, description="false: kept 24 h for its link alone, listed nowhere")
    include_base64: bool = Field(False, description="also return the bytes in the answer")
    provider: ShortText | None = Field(None, description="default: gemini where there is a key, else demo")
    model: ShortText | None = Field(None, description="one that can search; default: the provider's")


class BlendBody(WithImages):
    model_config = ConfigDict(
        json_schema_extra={"example": {"prompt": "Both squares as one flag", "images": list(EXAMPLE_IMAGES)}}
    )

    prompt: Prompt
    images: list[str] = Field(
        min_length=1,
        max_length=MAX_IMAGES,
        description="JPEG PNG WebP GIF, each in base64 or as a data URL; a model may take fewer than 14",
    )
    mode: BlendMode = Field("blend", description="style: two images, the first redrawn in the style of the second")
    aspect_ratio: ShortText = Field("1:1", description="1:1 16:9 9:16 4:3 3:4, and what else the model takes")
    safety_level: SafetyLevel | None = Field(None, description="as in /basic")
    save_to_history: bool = Field(True, description="false: kept 24 h for its link alone, listed nowhere")
    include_base64: bool = Field(False, description="also return the bytes in the answer")
    provider: ShortText | None = Field(None, description="default: gemini where there is a key, else demo")
    model: ShortText | None = Field(None, description="one that takes images; default: the provider's")


class GeneratedRead(BaseModel):
    """One image. `image_url`, `thumbnail_url` and `history_id` are null when nothing was kept."""

    image_url: str | None = Field(description="opens without a header until it ends")
    thumbnail_url: str | None
    image_base64: str | None = None
    mime_type: str = Field(examples=["image/png"])
    width: int = Field(description="pixels")
    height: int = Field(description="pixels")
    text_response: str | None = None
    thinking: str | None = None
    search_sources: str | None = None
    provider: str
    model: str
    duration: float = Field(description="seconds that the provider took, its retries included")
    history_id: str | None = None

    @classmethod
    def of(cls, generated: Generated, links: LinkService, base_url: str, now: int) -> Self:
        image = generated.image
        image_url, thumbnail_url = (
            links.urls(base_url, image.id, image.key, links.expires_at(now)) if image else (None, None)
        )
        return cls(
            image_url=image_url,
            thumbnail_url=thumbnail_url,
            image_base64=base64.b64encode(generated.data).decode() if generated.data is not None else None,
            mime_type=generated.facts.mime_type,
            width=generated.facts.width,
            height=generated.facts.height,
            text_response=generated.text_response,
            thinking=generated.thinking,
            search_sources=generated.search_sources,
            provider=generated.provider,
            model=generated.model,
            duration=generated.duration,
            history_id=image.id if image and image.listed else None,
        )


class EstimateQuery(RequestModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    mode: EstimatedMode = Field("basic", description="all but basic are always 1K")
    resolution: ShortText | None = None
    count: int = Field(1, ge=1, le=10)
    provider: ShortText | None = None
    model: ShortText | None = None


class EstimateRead(BaseModel):
    unit_cost: float = Field(examples=[0.134])
    total_cost: float = Field(examples=[0.134])
    currency: str = Field(examples=["USD"])

    @classmethod
    def of(cls, estimate: Estimate) -> Self:
        return cls(unit_cost=estimate.unit_cost, total_cost=estimate.total_cost, currency=estimate.currency)
