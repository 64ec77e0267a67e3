"""A chat: its turns, each of a message and the image that answered it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from pydantic import SecretStr

from core.clock import Milliseconds
from services.accounts.models import Caller
from services.history.models import Image
from services.idempotency import IdempotencyKey
from services.providers.base import Model, SafetyLevel
from services.references.models import ReferenceImage

Kind = TypeVar("Kind")

MAX_TURNS = 100
MAX_CHATS = 200  # of one user
MAX_KEPT_CHARACTERS = 8_000  # of each text of an answer, for those who read it; the model gets all of it


@dataclass(frozen=True)
class Attachment:
    """An image that came with a message; its bytes lie in storage. Sizes in pixels, `size` in bytes."""

    mime_type: str
    width: int
    height: int
    size: int


@dataclass(frozen=True)
class MarkedPart:
    """Where the text and the signature of a part of the answer lie in the turn's `marks`, in bytes, one behind the
    other. `text` None: here the image stands; `signature` None: it has none.
    """

    text: int | None
    signature: int | None


@dataclass(frozen=True)
class LeftOut:
    """What of the earlier turns was not sent again: images and whole turns for the budget, images that are gone."""

    images: int = 0
    turns: int = 0
    gone: int = 0


@dataclass(frozen=True)
class Begun:
    """A turn whose image is being made, in the call of this id: what there is of the turn until then."""

    turn_id: str
    call_id: str
    prompt: str
    asked_at: Milliseconds
    attachments: tuple[Attachment, ...]
    left_out: LeftOut

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """As it stands in JSON."""
        return _made(cls, {**fields, **_understood(fields)})


@dataclass(frozen=True)
class Chat:
    """What is known of a chat without its turns. `aspect_ratio`: of messages that name none. `title` None: it has none
    yet. `preview_prompt` and `preview_image_id` are of the last turn. `begun`: a turn that goes on, or whose process
    died.
    """

    id: str
    user_id: str
    created_at: Milliseconds
    aspect_ratio: str
    title: str | None
    turns: int = 0
    last_message_at: Milliseconds | None = None
    preview_prompt: str | None = None
    preview_image_id: str | None = None
    begun: Begun | None = None


@dataclass(frozen=True)
class Turn:
    """A message and its answer, as Redis keeps them. `content` and `thinking` are cut, the parts in storage are not.

    `parts` empty: what the provider has to be given back is not known. `duration` in seconds.
    """

    id: str
    call_id: str
    prompt: str
    asked_at: Milliseconds
    answered_at: Milliseconds
    image_id: str
    provider: str
    model: str
    duration: float
    content: str | None = None
    thinking: str | None = None
    attachments: tuple[Attachment, ...] = ()
    parts: tuple[MarkedPart, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)

    @property
    def marks_size(self) -> int:
        """Bytes."""
        return sum((part.text or 0) + (part.signature or 0) for part in self.parts)

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """As it stands in JSON."""
        parts = tuple(_made(MarkedPart, entry) for entry in fields["parts"])
        return _made(cls, {**fields, **_understood(fields), "parts": parts})

    @classmethod
    def of(cls, begun: Begun, image: Image, parts: tuple[MarkedPart, ...], answered_at: Milliseconds) -> Self:
        return cls(
            id=begun.turn_id,
            call_id=image.call_id,
            prompt=begun.prompt,
            asked_at=begun.asked_at,
            answered_at=answered_at,
            image_id=image.id,
            provider=image.provider,
            model=image.model,
            duration=image.duration,
            content=_cut(image.text_response),
            thinking=_cut(image.thinking),
            attachments=begun.attachments,
            parts=parts,
            left_out=begun.left_out,
        )


def _understood(fields: Mapping[str, Any]) -> dict[str, Any]:
    attachments = tuple(_made(Attachment, entry) for entry in fields["attachments"])
    return {"attachments": attachments, "left_out": _made(LeftOut, fields["left_out"])}


def _made(kind: type[Kind], fields: Mapping[str, Any]) -> Kind:
    """Without what a later version has written besides: two may run at once while one takes the other's place."""
    known = kind.__annotations__
    return kind(**{name: value for name, value in fields.items() if name in known})


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= MAX_KEPT_CHARACTERS else f"{text[:MAX_KEPT_CHARACTERS]}…"


@dataclass(frozen=True)
class Conversation:
    """A chat with all its turns. `images`: those of its answers that are still in the history, by id."""

    chat: Chat
    turns: tuple[Turn, ...]
    images: Mapping[str, Image]


@dataclass(frozen=True)
class Message:
    """What somebody says in a chat. `references` belong to whoever is given this. None: not asked for."""

    chat_id: str
    request_id: str
    caller: Caller
    own_key: SecretStr | None
    prompt: str
    references: tuple[ReferenceImage, ...]
    aspect_ratio: str | None
    safety_level: SafetyLevel
    enable_thinking: bool = False
    provider: str | None = None
    model: str | None = None
    idempotency: IdempotencyKey | None = None


@dataclass(frozen=True)
class Reply:
    """A turn that was just made, or was before (`replayed`). `image` None: it was deleted since."""

    turn: Turn
    image: Image | None
    lifecycle: Model | None = None
    replayed: bool = False
