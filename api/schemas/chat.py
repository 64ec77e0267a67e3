"""Chats."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.schemas.common import MAX_OFFSET, Prompt, RequestModel, ShortText, Timestamp, WithImages
from api.schemas.generate import EXAMPLE_IMAGES
from core.clock import Milliseconds, now_ms, utc
from core.paging import Page
from services.chat.models import Chat, Conversation, Reply, Turn
from services.chat.titles import UNTITLED
from services.history.links import LinkService
from services.history.models import Image
from services.providers.base import SafetyLevel
from services.references.uploads import MAX_IMAGES

MessageRole = Literal["user", "assistant"]
ChatExportFormat = Literal["json", "markdown", "zip"]

Links = Mapping[str, tuple[str, str]]
"""By an image's id: its address, and its thumbnail's."""

AspectRatio = Annotated[str, StringConstraints(pattern=r"^\d{1,2}:\d{1,2}$")]


class ChatBody(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {"aspect_ratio": "16:9", "title": "The lighthouse"}})

    aspect_ratio: AspectRatio | None = Field(None, description="of messages that name none; default: the service's")
    title: ShortText | None = Field(None, description="default: the beginning of the first message")


class ChatMessageBody(WithImages):
    model_config = ConfigDict(
        json_schema_extra={"example": {"message": "A lighthouse in these colours", "images": list(EXAMPLE_IMAGES)}}
    )

    message: Prompt
    images: list[str] = Field(
        default=[],
        max_length=MAX_IMAGES,
        description="JPEG PNG WebP GIF, each in base64 or as a data URL; they stay part of the chat",
    )
    aspect_ratio: ShortText | None = Field(None, description="of this image; default: the chat's")
    safety_level: SafetyLevel | None = Field(None, description="as in /api/generate/basic")
    enable_thinking: bool = Field(False, description="also return the model's thoughts")
    provider: ShortText | None = Field(None, description="default: gemini where there is a key, else demo")
    model: ShortText | None = Field(None, description="one that takes images; default: the provider's")


class ChatsQuery(RequestModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)


class ChatExportQuery(RequestModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    format: ChatExportFormat = Field("json", description="markdown has the images' links, zip has the images")


class NewChatRead(BaseModel):
    session_id: str
    created_at: Timestamp
    aspect_ratio: str
    title: str | None

    @classmethod
    def of(cls, chat: Chat) -> Self:
        return cls(
            session_id=chat.id, created_at=utc(chat.created_at), aspect_ratio=chat.aspect_ratio, title=chat.title
        )


class ChatSummaryRead(BaseModel):
    """A chat in a list."""

    session_id: str
    title: str
    created_at: Timestamp
    message_count: int = Field(description="messages and answers")
    last_message_at: Timestamp | None = None
    preview_prompt: str | None = Field(None, description="the last message")
    preview_image_url: str | None = Field(None, description="a thumbnail of the last image, while it is there")

    @classmethod
    def of(cls, chat: Chat, links: Links) -> Self:
        _, preview = links.get(chat.preview_image_id or "", (None, None))
        return cls(
            session_id=chat.id,
            title=chat.title or UNTITLED,
            created_at=utc(chat.created_at),
            message_count=2 * chat.turns,
            last_message_at=None if chat.last_message_at is None else utc(chat.last_message_at),
            preview_prompt=chat.preview_prompt,
            preview_image_url=preview,
        )


class ChatsRead(BaseModel):
    """A page of my chats, those with the latest message first."""

    sessions: list[ChatSummaryRead]
    total: int
    limit: int
    offset: int
    has_more: bool

    @classmethod
    def of(cls, page: Page[Chat], links: Links) -> Self:
        return cls(
            sessions=[ChatSummaryRead.of(chat, links) for chat in page.items],
            total=page.total,
            limit=page.limit,
            offset=page.offset,
            has_more=page.has_more,
        )


class AttachmentRead(BaseModel):
    """An image that came with a message; the zip of the chat has its bytes."""

    mime_type: str
    width: int = Field(description="pixels")
    height: int = Field(description="pixels")
    size: int = Field(description="bytes")


class ChatMessageRead(BaseModel):
    """A message, or its answer: what the other one has is null, or empty."""

    role: MessageRole
    content: str | None = Field(description="a text of the model may be cut after 8,000 characters")
    image_url: str | None = None
    thumbnail_url: str | None = None
    thinking: str | None = None
    timestamp: Timestamp
    history_id: str | None = Field(None, description="the image in the history, also when it was deleted there")
    image_deleted: bool = Field(False, description="the image is not in the history any more")
    attachments: list[AttachmentRead]

    @classmethod
    def both(cls, turn: Turn, links: Links) -> tuple[Self, Self]:
        attachments = [AttachmentRead.model_validate(vars(kept)) for kept in turn.attachments]
        image_url, thumbnail_url = links.get(turn.image_id, (None, None))
        said = cls(role="user", content=turn.prompt, timestamp=utc(turn.asked_at), attachments=attachments)
        answer = cls(
            role="assistant",
            content=turn.content,
            image_url=image_url,
            thumbnail_url=thumbnail_url,
            thinking=turn.thinking,
            timestamp=utc(turn.answered_at),
            history_id=turn.image_id,
            image_deleted=image_url is None,
            attachments=[],
        )
        return said, answer


class ChatRead(BaseModel):
    """A chat, whole."""

    session_id: str
    title: str
    created_at: Timestamp
    aspect_ratio: str
    messages: list[ChatMessageRead]

    @classmethod
    def of(cls, talk: Conversation, links: Links) -> Self:
        return cls(
            session_id=talk.chat.id,
            title=talk.chat.title or UNTITLED,
            created_at=utc(talk.chat.created_at),
            aspect_ratio=talk.chat.aspect_ratio,
            messages=[message for turn in talk.turns for message in ChatMessageRead.both(turn, links)],
        )


class ChatExportRead(ChatRead):
    """A chat as a download."""

    exported_at: Timestamp


class ChatAnswerRead(ChatMessageRead):
    """The answer to a message. `dropped_…` and `deleted_images` say what of the earlier turns the model did not see."""

    duration: float = Field(description="seconds that the provider took, its retries included")
    provider: str
    model: str
    dropped_images: int = Field(description="images of earlier turns that were over the budget, the oldest")
    dropped_turns: int = Field(description="earlier turns that were over the budget, the oldest")
    deleted_images: int = Field(description="images of earlier answers that are not in the history any more")

    @classmethod
    def of(cls, reply: Reply, links: Links) -> Self:
        turn = reply.turn
        _, answer = ChatMessageRead.both(turn, links)
        return cls(
            **dict(answer),
            duration=turn.duration,
            provider=turn.provider,
            model=turn.model,
            dropped_images=turn.left_out.images,
            dropped_turns=turn.left_out.turns,
            deleted_images=turn.left_out.gone,
        )


def links_of(images: Mapping[str, Image], links: LinkService, base_url: str, now: Milliseconds) -> Links:
    expires_at = links.expires_at(now)
    return {image.id: links.urls(base_url, image.id, image.key, expires_at) for image in images.values()}


def describe_chat(talk: Conversation, links: LinkService, base_url: str) -> dict[str, object]:
    """As `ChatExportRead` has it, but for the time."""
    return ChatRead.of(talk, links_of(talk.images, links, base_url, now_ms())).model_dump(mode="json")
