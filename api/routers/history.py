"""/api/history: what the caller made."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response, Security

from api.context import services_of
from api.dependencies import BEARER, BaseUrl, CurrentCaller, Services, base_url, reading_caller
from api.errors import errors
from api.lean_route import LeanRoute, only_documented, query_of
from api.schemas.common import Success
from api.schemas.history import DeleteQuery, HistoryQuery, HistoryRead, ImageDetailRead
from core.clock import now_ms
from core.errors import NotFound, RateLimited, StorageUnavailable, Unauthorized

reads = APIRouter(prefix="/api/history", tags=["history"], route_class=LeanRoute)
router = APIRouter(prefix="/api/history", tags=["history"])


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
    page = await services.history.page(caller.user_id, query.filter(), query.sort, query.limit, query.offset)
    body = HistoryRead.json_of(page, services.links, await base_url(request), now_ms())
    return Response(body, media_type="application/json")


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
