"""What a provider is: it takes an ImageRequest and gives an ImageResult, or raises an error of errors.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

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
    """`timeout_seconds` of one try; `max_retries` after the first. `text_model` None: it writes nothing."""

    name: str
    display_name: str
    default_model: str
    timeout_seconds: float
    max_retries: int
    text_model: str | None = None


@dataclass(frozen=True)
class KeptText:
    """A text in a file, as it stands between the quotes of a JSON string: `size` bytes from `offset`."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True)
class EarlierPart:
    """A part of an earlier answer. `text` None: here its image stands. `signature`: the provider's mark on it."""

    text: KeptText | None
    signature: KeptText | None


@dataclass(frozen=True)
class EarlierTurn:
    """A message and its answer, as far as they are sent again.

    `references` and `image` are in files; None stands for one that is left out. `parts` are the answer as the model of
    the request gave it; empty where another one did, or where they are lost: then `said` is its text.
    """

    prompt: str
    references: tuple[ReferenceImage | None, ...]
    said: str | None
    image: ReferenceImage | None
    parts: tuple[EarlierPart, ...] = ()


@dataclass(frozen=True)
class ImageRequest:
    """One image to make, already checked against what the model can do.

    `grounded`: with a search for what the prompt names. `style_transfer`: of two references, the first is redrawn in
    the style of the second; otherwise all of them are blended. The provider leaves their files where they are.
    `turns`: those that came before in a chat; None outside of one.
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
    turns: tuple[EarlierTurn, ...] | None = None


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
class AnswerPart:
    """A part of an answer that is no thought, as a chat gives it back. `text` None: here the image stands.

    `signature`: the provider's mark on this part, which goes back with it unchanged.
    """

    text: str | None
    signature: str | None


@dataclass(frozen=True)
class ImageResult:
    """`parts`: all of the answer, of a turn of a chat alone."""

    image: SpooledImage
    text_response: str | None = None
    thinking: str | None = None
    search_sources: str | None = None
    parts: tuple[AnswerPart, ...] = ()


@dataclass(frozen=True)
class TextRequest:
    """A question that is to be answered in JSON by `schema`, in the subset of OpenAPI that Google takes.

    `instruction`: what to do with `text` and the images, which follow it and whose files the provider leaves alone.
    """

    model: Model
    instruction: str
    text: str
    schema: Mapping[str, Any]
    safety_level: SafetyLevel
    api_key: SecretStr
    references: tuple[ReferenceImage, ...] = ()


class TextProvider(Protocol):
    """A provider that has a text model."""

    name: str

    async def write_text(self, request: TextRequest) -> str:
        """One answer in one try, as the model wrote it. Raises ProviderError or ContentBlocked."""


class Provider(Protocol):
    """`needs_key`: whether a call needs an API key, the caller's or the operator's."""

    name: str
    needs_key: bool

    async def make_image(self, request: ImageRequest) -> ImageResult:
        """Make one image in one try. Raises ProviderError or ContentBlocked."""

    async def probe(self, model: Model, api_key: SecretStr) -> None:
        """One call that costs nothing: does it answer, is the key good? Raises ProviderError."""

    async def close(self) -> None: ...
