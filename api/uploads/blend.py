"""What POST /api/generate/blend is sent."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.dependencies import MakingCaller, OwnKey, Services
from api.idempotency import IdempotencyHeader, idempotency_of
from api.schemas.generate import BlendBody
from api.uploads.receive import receive
from core.errors import Unauthorized
from services.idempotency import IdempotencyKey
from services.references.models import ReferenceImage


@dataclass(frozen=True)
class BlendInput:
    """The files of the references belong to whoever is given this."""

    body: BlendBody
    references: tuple[ReferenceImage, ...]
    idempotency: IdempotencyKey | None


async def blend_input(
    request: Request, services: Services, caller: MakingCaller, own_key: OwnKey, key: IdempotencyHeader
) -> BlendInput:
    """Read and check the body, once it is known whose it is: megabytes of nobody's are not taken in."""
    if caller is None and own_key is None:
        raise Unauthorized
    received = await receive(request, BlendBody, services.references.uploads())
    references = await services.references.accept(received.paths)
    try:
        # The body without what stands for the images: their place-holders are new with each request.
        body = received.body.model_copy(update={"images": []})
        images = b"" if key is None else await services.references.digest(references)
        return BlendInput(body, references, idempotency_of(caller, key, "blend", body, images))
    except BaseException:
        for reference in references:
            reference.remove()
        raise


BlendRequest = Annotated[BlendInput, Depends(blend_input)]
