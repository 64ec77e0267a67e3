"""/api/images: the bytes, for whoever holds a signed link or is signed in as their owner."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse

from api.byte_ranges import UnsatisfiableRange, parse_range
from api.dependencies import LinkedCaller, Services
from api.errors import errors, render_error
from api.routing import Router
from api.schemas.images import LinkQuery
from api.streams import attachment
from core.clock import now_ms
from core.errors import NotFound, RangeNotSatisfiable, StorageUnavailable, Unauthorized
from services.accounts.models import Caller
from services.container import Container
from services.history.models import Image
from services.history.thumbnails import MIME_TYPE as THUMBNAIL_MIME_TYPE
from services.storage.errors import ObjectNotFound

CACHE_CONTROL = "private, max-age=31536000, immutable"

router = Router(prefix="/api/images", tags=["images"])

_RESPONSES: dict[int | str, dict[str, Any]] = {
    **errors(Unauthorized, NotFound, StorageUnavailable),
    304: {"description": "unchanged, by `If-None-Match`"},
    200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}, "description": "the image"},
}
_BYTES_RESPONSES: dict[int | str, dict[str, Any]] = {
    **_RESPONSES,
    **errors(Unauthorized, NotFound, RangeNotSatisfiable, StorageUnavailable),
    206: {**_RESPONSES[200], "description": "the part that `Range` asks for"},
}
_LINKED: dict[str, Any] = {"security": [{}]}  # beside the token: a signed link opens without one


@router.head("/{image_id}", include_in_schema=False)
@router.get("/{image_id}", response_class=Response, responses=_BYTES_RESPONSES, openapi_extra=_LINKED)
async def read_image_bytes(
    request: Request, image_id: str, query: Annotated[LinkQuery, Query()], services: Services, caller: LinkedCaller
) -> Response:
    """The bytes as the provider sent them."""
    image = await _open(image_id, query, services, caller)
    headers = {"etag": f'"{image.id}"', "cache-control": CACHE_CONTROL, "accept-ranges": "bytes"}
    if query.download:
        headers["content-disposition"] = attachment(image.key.rpartition("/")[2])
    if _unchanged(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return await _bytes(request, image, services, headers)


@router.head("/{image_id}/thumbnail", include_in_schema=False)
@router.get("/{image_id}/thumbnail", response_class=Response, responses=_RESPONSES, openapi_extra=_LINKED)
async def read_image_thumbnail(
    request: Request, image_id: str, query: Annotated[LinkQuery, Query()], services: Services, caller: LinkedCaller
) -> Response:
    """WebP, at most 400 pixels, made once."""
    image = await _open(image_id, query, services, caller)
    headers = {"etag": f'"{image.id}-t"', "cache-control": CACHE_CONTROL}
    if _unchanged(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    data = await services.thumbnails.thumbnail(image)
    return Response(data, headers=headers, media_type=THUMBNAIL_MIME_TYPE)


async def _open(image_id: str, query: LinkQuery, services: Container, caller: Caller | None) -> Image:
    """By its link's signature, else by its owner's token."""
    if query.sig is not None:
        if query.exp is None or not services.links.opens(image_id, query.exp, query.sig, now_ms()):
            raise Unauthorized("link_invalid_or_expired")
    elif caller is None:
        raise Unauthorized
    image = await services.history.find_for_link(image_id)
    if image is None or (query.sig is None and caller is not None and image.user_id != caller.user_id):
        raise NotFound(f"image {image_id}")
    return image


async def _bytes(request: Request, image: Image, services: Container, headers: dict[str, str]) -> Response:
    asked = request.headers.get("range") if request.method == "GET" else None  # it has no meaning for any other
    if_range = request.headers.get("if-range")
    try:
        part = parse_range(asked, image.size) if if_range in {None, headers["etag"]} else None
    except UnsatisfiableRange:
        response = render_error(request, RangeNotSatisfiable(image.size))
        response.headers["content-range"] = f"bytes */{image.size}"
        return response
    status, start, length = 200, 0, image.size
    if part is not None:
        start, length = part
        status = 206
        headers["content-range"] = f"bytes {start}-{start + length - 1}/{image.size}"
    headers["content-length"] = str(length)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=image.mime_type)
    pieces = services.storage.stream(image.key, start, length)
    try:
        # Before anything is sent: what is missing or away still becomes an error then.
        first = await anext(pieces, b"")
    except ObjectNotFound as error:
        raise NotFound(f"bytes of {image.key}") from error
    return StreamingResponse(_from(first, pieces), status, headers, image.mime_type)


async def _from(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def _unchanged(request: Request, etag: str) -> bool:
    given = request.headers.get("if-none-match", "")
    return given.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in given.split(",")]
