"""Bodies with images in them, read and checked: what POST /api/generate/blend and a message of a chat are sent."""

from dataclasses import dataclass
from typing import Annotated, Generic

from fastapi import Depends, Request

from api.dependencies import MakingCaller, MakingUser, OwnKey, Services
from api.idempotency import IdempotencyHeader, idempotency_of
from api.schemas.chat import ChatMessageBody
from api.schemas.generate import BlendBody
from api.uploads.receive import Body, receive
from core.errors import Unauthorized
from services.accounts.models import Caller
from services.container import Container
from services.idempotency import IdempotencyKey
from services.references.models import ReferenceImage


@dataclass(frozen=True)
class WithReferences(Generic[Body]):
    """The files of the references belong to whoever is given this."""

    body: Body
    references: tuple[ReferenceImage, ...]
    idempotency: IdempotencyKey | None


async def blend_input(
    request: Request, services: Services, caller: MakingCaller, own_key: OwnKey, key: IdempotencyHeader
) -> WithReferences[BlendBody]:
    """Once it is known whose it is: megabytes of nobody's are not taken in."""
    if caller is None and own_key is None:
        raise Unauthorized
    return await _received(request, services, BlendBody, caller, key, "blend")


async def message_input(
    request: Request, services: Services, caller: MakingUser, key: IdempotencyHeader, chat_id: str
) -> WithReferences[ChatMessageBody]:
    return await _received(request, services, ChatMessageBody, caller, key, f"chat/{chat_id}")


async def _received(
    request: Request, services: Container, model: type[Body], caller: Caller | None, key: str | None, route: str
) -> WithReferences[Body]:
    received = await receive(request, model, services.references.uploads())
    references = await services.references.accept(received.paths)
    try:
        # The body without what stands for the images: their place-holders are new with each request.
        body = received.body.model_copy(update={"images": []})
        images = b"" if key is None else await services.references.digest(references)
        return WithReferences(body, references, idempotency_of(caller, key, route, body, images))
    except BaseException:
        for reference in references:
            reference.remove()
        raise


BlendRequest = Annotated[WithReferences[BlendBody], Depends(blend_input)]
MessageRequest = Annotated[WithReferences[ChatMessageBody], Depends(message_input)]
