"""/api/chat: refining an image in several turns."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import Query, Request, Response

from api.context import request_id_of
from api.dependencies import BaseUrl, CurrentCaller, MakingUser, OwnKey, Services
from api.errors import errors
from api.idempotency import IdempotencyHeader, idempotency_of
from api.openapi import body_with_images
from api.routers.generate import CAN_HAPPEN, answer_headers, connected
from api.routing import Router
from api.schemas.chat import (
    ChatAnswerRead,
    ChatBody,
    ChatExportQuery,
    ChatExportRead,
    ChatRead,
    ChatsQuery,
    ChatsRead,
    NewChatRead,
    describe_chat,
    links_of,
)
from api.schemas.common import Success
from api.streams import streamed_file
from api.uploads.with_references import MessageRequest
from core.clock import now_ms
from core.errors import NotFound, PayloadTooLarge, RateLimited, RequestTimeout, StorageUnavailable, Unauthorized
from services.chat.models import Conversation, Message
from services.container import Container
from services.history.models import Image
from services.idempotency import Conflict, IdempotencyMismatch
from services.references.errors import UnsupportedImage

router = Router(prefix="/api/chat", tags=["chat"])

_CREATED = (Unauthorized, RateLimited, PayloadTooLarge, RequestTimeout, Conflict, IdempotencyMismatch, NotFound)
_FILES: dict[str, Any] = {
    "model": ChatExportRead,
    "description": "the chat as a download",
    "content": {
        media_type: {"schema": {"type": "string", "format": "binary"}}
        for media_type in ("text/markdown", "application/zip")
    },
}


@router.post("/sessions", status_code=201, responses=errors(*_CREATED))
async def create_chat(
    response: Response, body: ChatBody, caller: MakingUser, services: Services, key: IdempotencyHeader
) -> NewChatRead:
    """A new chat, which lives CHAT_TTL_DAYS after its last message; at most 200 of one user."""
    asked = idempotency_of(caller, key, "chat", body)
    aspect_ratio = body.aspect_ratio or services.settings.defaults.default_aspect_ratio
    chat, replayed = await services.chats.service.create(caller, aspect_ratio, body.title, asked)
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return NewChatRead.of(chat)


@router.get("/sessions", responses=errors(Unauthorized, RateLimited))
async def list_chats(
    query: Annotated[ChatsQuery, Query()], caller: CurrentCaller, services: Services, base: BaseUrl
) -> ChatsRead:
    """My chats, those with the latest message first."""
    page, images = await services.chats.service.page(caller, query.limit, query.offset)
    return ChatsRead.of(page, links_of(images, services.links, base, now_ms()))


@router.get("/sessions/{chat_id}", responses=errors(Unauthorized, NotFound, RateLimited))
async def read_chat(chat_id: str, caller: CurrentCaller, services: Services, base: BaseUrl) -> ChatRead:
    """One of my chats, with all its messages."""
    talk = await services.chats.service.read(caller, chat_id)
    return ChatRead.of(talk, links_of(talk.images, services.links, base, now_ms()))


@router.post(
    "/sessions/{chat_id}/messages",
    response_model=ChatAnswerRead,
    responses=errors(*CAN_HAPPEN, UnsupportedImage),
    openapi_extra=body_with_images("ChatMessage"),
)
async def send_message(
    chat_id: str,
    request: Request,
    caller: MakingUser,
    own_key: OwnKey,
    services: Services,
    base: BaseUrl,
    given: MessageRequest,
) -> Response:
    """Say how the image should change; up to 14 images may come with it. Always 1K; at most 100 turns a chat."""
    body = given.body
    message = Message(
        chat_id=chat_id,
        request_id=request_id_of(request),
        caller=caller,
        own_key=own_key,
        prompt=body.message,
        references=given.references,
        aspect_ratio=body.aspect_ratio,
        safety_level=body.safety_level or services.settings.defaults.default_safety_level,
        enable_thinking=body.enable_thinking,
        provider=body.provider,
        model=body.model,
        idempotency=given.idempotency,
    )
    reply = await services.chats.turns.say(message, connected(request))
    images = {} if reply.image is None else {reply.image.id: reply.image}
    answer = ChatAnswerRead.of(reply, links_of(images, services.links, base, now_ms()))
    headers = answer_headers(reply.lifecycle, replayed=reply.replayed)
    return Response(answer.model_dump_json(), headers=headers, media_type="application/json")


@router.delete("/sessions/{chat_id}", responses=errors(Unauthorized, NotFound, RateLimited))
async def delete_chat(chat_id: str, caller: CurrentCaller, services: Services) -> Success:
    """The chat is gone, with the images that came with its messages; those of its answers stay in the history."""
    await services.chats.service.delete(caller, chat_id)
    return Success()


@router.get(
    "/sessions/{chat_id}/export",
    response_class=Response,
    responses={**errors(Unauthorized, NotFound, RateLimited, StorageUnavailable), 200: _FILES},
)
async def export_chat(
    chat_id: str, query: Annotated[ChatExportQuery, Query()], caller: CurrentCaller, services: Services, base: BaseUrl
) -> Response:
    """A chat as a download: JSON, Markdown with links, or a zip with the images."""
    talk = await services.chats.service.read(caller, chat_id)
    pieces, suffix, media_type = _exported(talk, query.format, services, base)
    return await streamed_file(pieces, name=f"{chat_id}.{suffix}", media_type=media_type)


def _exported(talk: Conversation, form: str, services: Container, base: str) -> tuple[AsyncGenerator[bytes], str, str]:
    """The file, the end of its name, its media type."""
    export, links = services.chats.export, services.links
    expires_at = links.expires_at(now_ms())

    def describe(one: Conversation) -> dict[str, object]:
        return describe_chat(one, links, base)

    def link_of(image: Image) -> str:
        return links.urls(base, image.id, image.key, expires_at)[0]

    match form:
        case "markdown":
            return export.markdown(talk, link_of), "md", "text/markdown"
        case "zip":
            return export.zip(talk, describe), "zip", "application/zip"
        case _:
            return export.json(talk, describe), "json", "application/json"
