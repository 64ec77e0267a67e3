"""What a provider is: it takes an ImageRequest and gives an ImageResult, or raises an error of errors.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

from pydantic import SecretStr

from services.references.models import ReferenceImage

SafetyLevel = Literal["strict", "moderate", "relaxed", "none"]


class Capability(StrEnum):
    """What a model can do (SPEC section 12)."""

    TEXT_TO_IMAGE = "text_to_image"
    SEARCH = "search"
    EDIT = "edit"
    INPAINT = "inpaint"
    UPSCALE = "upscale"
    RECONTEXT = "recontext"
    SEGMENT = "segment"
    TEXT = "text"
    EMBED = "embed"
    VIDEO = "video"
    SPEECH = "speech"
    MUSIC = "music"


@dataclass(frozen=True)
class Model:
    """One model of the catalog. `prices` in USD an image, by resolution; `takes` names optional request fields."""

    id: str
    provider: str
    aliases: tuple[str, ...]
    capabilities: frozenset[Capability]
    aspect_ratios: tuple[str, ...]
    resolutions: tuple[str, ...]
    takes: frozenset[str]
    max_references: int
    prices: Mapping[str, float]
    deprecated_on: date | None = None
    ends_on: date | None = None
    successor: str | None = None


@dataclass(frozen=True)
class ProviderInfo:
    """`timeout_seconds` of one try; `max_retries` after the first."""

    name: str
    display_name: str
    default_model: str
    timeout_seconds: float
    max_retries: int


@dataclass(frozen=True)
class ImageRequest:
    """One image to make, already checked against what the model can do.

    `grounded`: with a search for what the prompt names. `style_transfer`: of two references, the first is redrawn in
    the style of the second; otherwise all of them are blended. The provider leaves their files where they are.
    """

    model: Model
    prompt: str
    aspect_ratio: str
    resolution: str
    safety_level: SafetyLevel
    enable_thinking: bool
    seed: int | None
    negative_prompt: str | None
    api_key: SecretStr | None
    grounded: bool = False
    references: tuple[ReferenceImage, ...] = ()
    style_transfer: bool = False


@dataclass(frozen=True)
class ImageFacts:
    """What the bytes themselves say. Sizes in pixels."""

    mime_type: str
    width: int
    height: int


@dataclass(frozen=True)
class SpooledImage:
    """The provider's own bytes, in a file that its receiver must store or remove. `size` in bytes."""

    path: Path
    size: int
    facts: ImageFacts

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class ImageResult:
    image: SpooledImage
    text_response: str | None = None
    thinking: str | None = None
    search_sources: str | None = None


class Provider(Protocol):
    """`needs_key`: whether a call needs an API key, the caller's or the operator's."""

    name: str
    needs_key: bool

    async def make_image(self, request: ImageRequest) -> ImageResult:
        """Make one image in one try. Raises ProviderError or ContentBlocked."""

    async def probe(self, model: Model, api_key: SecretStr) -> None:
        """One call that costs nothing: does it answer, is the key good? Raises ProviderError."""

    async def close(self) -> None: ...
