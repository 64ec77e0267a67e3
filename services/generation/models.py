"""What the pipeline takes, what it carries from step to step, and what it gives."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import SecretStr

from services.accounts.models import Caller
from services.history.models import Image
from services.history.records import Record
from services.idempotency import Call, IdempotencyKey
from services.moderation.inspection import Inspection
from services.providers.base import (
    AnswerPart,
    Capability,
    EarlierTurn,
    ImageFacts,
    ImageRequest,
    ImageResult,
    Model,
    SafetyLevel,
)
from services.providers.service import Route
from services.quota.models import Reservation
from services.references.models import ReferenceImage

# What a model must be able to do for a mode.
CAPABILITIES: Mapping[str, Capability] = {
    "basic": Capability.TEXT_TO_IMAGE,
    "search": Capability.SEARCH,
    "blend": Capability.EDIT,
    "style": Capability.EDIT,
    "batch": Capability.TEXT_TO_IMAGE,
    "chat": Capability.EDIT,
}


@dataclass(frozen=True)
class PlaceInChat:
    """`index` of the turn, from 0. `prepare` is called once the points are held, with the model that was chosen and the
    call's id, and gives the turns before; their files belong to whoever made this.
    """

    session_id: str
    index: int
    prepare: Callable[[Model, str], Awaitable[tuple[EarlierTurn, ...]]]


@dataclass(frozen=True)
class GenerationCommand:
    """One image to make, in a mode of CAPABILITIES.

    `caller` None: anonymous, with an own key; nothing is kept then. None in the other fields: not asked for.
    `references` belong to the pipeline: their files are gone when the work has ended, however it did.
    """

    request_id: str
    caller: Caller | None
    own_key: SecretStr | None
    mode: str
    prompt: str
    aspect_ratio: str
    resolution: str
    safety_level: SafetyLevel
    enable_thinking: bool = False
    negative_prompt: str | None = None
    seed: int | None = None
    provider: str | None = None
    model: str | None = None
    save_to_history: bool = True
    include_bytes: bool = False
    references: tuple[ReferenceImage, ...] = ()
    idempotency: IdempotencyKey | None = None
    chat: PlaceInChat | None = None


@dataclass(frozen=True)
class Share:
    """One image of a task, made on what the whole task holds. `call`: its own, the same at each try; `is_first`:
    nobody can have tried before.
    """

    task_id: str
    call: Call
    reservation: Reservation
    is_first: bool


@dataclass(frozen=True)
class Accepted:
    """What a task was promised: by these its images are made, whatever the defaults are by then.

    `lifecycle` is the model, whose end may have to be told of.
    """

    provider: str
    model: str
    is_metered: bool
    uses_own_key: bool
    lifecycle: Model


@dataclass(frozen=True)
class Work:
    """A command on its way: its image follows from `call`.

    `stem`: where the image goes in storage; None without a caller, for whom nothing is kept. `reservation` begins and
    ends with this work; that of a `share` is the task's.
    """

    command: GenerationCommand
    call: Call
    route: Route
    request: ImageRequest
    stem: str | None = None
    reservation: Reservation | None = None
    share: Share | None = None
    inspection: Inspection | None = None

    @property
    def charge(self) -> Reservation | None:
        """What the image is charged to."""
        found = self.reservation if self.share is None else self.share.reservation
        return found if found is not None and found.is_metered else None


@dataclass(frozen=True)
class Answer:
    """What the provider sent. `duration` in seconds, its retries included."""

    result: ImageResult
    duration: float


@dataclass(frozen=True)
class Generated:
    """A made image. `image` None: not kept, `data` has the bytes. `duration` in seconds.

    `lifecycle` is the model whose end is to be told of; `replayed`: it was made by an earlier call with the same
    Idempotency-Key. `parts`: what a turn of a chat was answered, unless an earlier try was.
    """

    image: Image | None
    facts: ImageFacts
    data: bytes | None
    text_response: str | None
    thinking: str | None
    search_sources: str | None
    provider: str
    model: str
    duration: float
    lifecycle: Model | None = None
    replayed: bool = False
    parts: tuple[AnswerPart, ...] = ()

    @classmethod
    def of_image(
        cls,
        image: Image,
        data: bytes | None,
        *,
        lifecycle: Model | None,
        replayed: bool,
        parts: tuple[AnswerPart, ...] = (),
    ) -> Self:
        return cls(
            image=image,
            facts=ImageFacts(image.mime_type, image.width, image.height),
            data=data,
            text_response=image.text_response,
            thinking=image.thinking,
            search_sources=image.search_sources,
            provider=image.provider,
            model=image.model,
            duration=image.duration,
            lifecycle=lifecycle,
            replayed=replayed,
            parts=parts,
        )


@dataclass(frozen=True)
class Kept:
    """An image that is stored, with its record. `data`: its bytes, where the caller wants them in the answer."""

    record: Record
    data: bytes | None
    parts: tuple[AnswerPart, ...] = ()


@dataclass(frozen=True)
class Passing:
    """An image for a caller who keeps nothing here."""

    result: ImageResult
    duration: float
    data: bytes

    def answer(self, model: Model) -> Generated:
        return Generated(
            image=None,
            facts=self.result.image.facts,
            data=self.data,
            text_response=self.result.text_response,
            thinking=self.result.thinking,
            search_sources=self.result.search_sources,
            provider=model.provider,
            model=model.id,
            duration=self.duration,
            lifecycle=model,
        )
