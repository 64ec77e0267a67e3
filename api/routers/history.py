"""/api/history: what the caller made."""

from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response, Security

from api.context import services_of
from api.dependencies import BEARER, BaseUrl, CurrentCaller, Services, base_url, reading_caller
from api.errors import errors
from api.lean_route import LeanRoute, only_documented, query_of
from api.routing import Router
from api.schemas.common import Success
from api.schemas.history import DeleteQuery, HistoryQuery, HistoryRead, ImageDetailRead
from api.schemas.history_changes import ClearedRead, DeletedRead, DeleteRequest, ExportRequest, FavoriteRequest
from api.streams import streamed_file
from core.clock import now_ms, utc_day
from core.errors import NotFound, PayloadTooLarge, RateLimited, RequestTimeout, StorageUnavailable, Unauthorized
from core.paging import Page
from services.history.models import EntryPage, Image, ListedImage
from services.history.service import HistoryService

reads = Router(prefix="/api/history", tags=["history"], route_class=LeanRoute)
router = Router(prefix="/api/history", tags=["history"])

_WITH_BODY = (Unauthorized, PayloadTooLarge, RequestTimeout, RateLimited, StorageUnavailable)

_ZIP: dict[str, Any] = {
    "description": "a zip of `images/…` and `metadata.json`",
    "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
}


@only_documented
async def page_documented(query: Annotated[HistoryQuery, Query()]) -> None:
    """What `list_history` says of its query."""


@reads.get(
    "",
    response_model=HistoryRead,
    responses=errors(Unauthorized, RateLimited),
    dependencies=[Security(BEARER), Depends(page_documented)],
)
async def list_history(request: Request) -> Response:
    """My images, a page at a time."""
    services = services_of(request)
    caller = await reading_caller(request, await BEARER(request))
    query = query_of(HistoryQuery, request)
    page = await _page(services.history, caller.user_id, query)
    body = HistoryRead.json_of(page, services.links, await base_url(request), now_ms())
    return Response(body, media_type="application/json")


async def _page(history: HistoryService, user_id: str, query: HistoryQuery) -> Page[ListedImage] | EntryPage:
    wanted, sort = query.wanted(), query.sort or "newest"
    if wanted is not None:
        return await history.search(user_id, wanted, query.limit, query.offset)
    if query.group is not None:
        return await history.grouped_page(user_id, query.filter(), sort, query.limit, query.offset)
    return await history.page(user_id, query.filter(), sort, query.limit, query.offset)


@router.delete("", responses=errors(*_WITH_BODY))
async def delete_images(
    body: DeleteRequest, query: Annotated[DeleteQuery, Query()], caller: CurrentCaller, services: Services
) -> DeletedRead:
    """Several of my images, at most 1,000; what is not mine is named, and the rest goes."""
    deleted = await services.history.delete_many(caller.user_id, body.ids, final=query.final)
    not_found = [image_id for image_id in dict.fromkeys(body.ids) if image_id not in deleted]
    return DeletedRead(deleted_count=len(deleted), not_found=not_found)


@router.delete("/all", responses=errors(Unauthorized, RateLimited, StorageUnavailable))
async def clear_history(
    query: Annotated[DeleteQuery, Query()], caller: CurrentCaller, services: Services
) -> ClearedRead:
    """All of my images; with `final=true` those in the trash too."""
    return ClearedRead(deleted_count=await services.history.clear(caller.user_id, final=query.final))


@router.post(
    "/export",
    response_class=Response,
    responses={**errors(*_WITH_BODY), 200: _ZIP},
)
async def export_history(body: ExportRequest, caller: CurrentCaller, services: Services, base: BaseUrl) -> Response:
    """My images with all that is known of them, as a zip: at most 1,000 by their ids, or all that fit a filter."""
    history, ids = services.history, body.ids
    images = history.iterate(caller.user_id, body.filter()) if ids is None else history.iterate_ids(caller.user_id, ids)

    def describe(image: Image) -> dict[str, Any]:
        return ImageDetailRead.of(image, services.links, base, now_ms()).model_dump(mode="json")

    pieces = services.history_export.stream(images, describe, ids or ())
    return await streamed_file(pieces, name=f"history-{utc_day(now_ms())}.zip", media_type="application/zip")


@router.get("/{image_id}", responses=errors(Unauthorized, NotFound, RateLimited))
async def read_image(image_id: str, caller: CurrentCaller, services: Services, base: BaseUrl) -> ImageDetailRead:
    """One of my images, whole."""
    image = await services.history.get(caller.user_id, image_id)
    return ImageDetailRead.of(image, services.links, base, now_ms())


@router.delete("/{image_id}", responses=errors(Unauthorized, NotFound, RateLimited, StorageUnavailable))
async def delete_image(
    image_id: str, query: Annotated[DeleteQuery, Query()], caller: CurrentCaller, services: Services
) -> Success:
    """Gone from every list at once; for good after TRASH_MINUTES, or at once with `final=true`."""
    await services.history.delete(caller.user_id, image_id, final=query.final)
    return Success()


@router.post("/{image_id}/restore", responses=errors(Unauthorized, NotFound, RateLimited))
async def restore_image(image_id: str, caller: CurrentCaller, services: Services, base: BaseUrl) -> ImageDetailRead:
    """Back out of the trash."""
    image = await services.history.restore(caller.user_id, image_id)
    return ImageDetailRead.of(image, services.links, base, now_ms())


@router.post("/{image_id}/favorite", responses=errors(NotFound, *_WITH_BODY))
async def mark_favorite(image_id: str, body: FavoriteRequest, caller: CurrentCaller, services: Services) -> Success:
    """Mark one of my images as a favorite, or no longer."""
    await services.history.set_favorite(caller.user_id, image_id, body.is_favorite)
    return Success()
