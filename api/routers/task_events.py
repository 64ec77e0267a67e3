"""/api/v1/tasks/{task_id}/events: what has happened to a task, then what happens."""

from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request, Response

from api.dependencies import Bearer, Services, admit_reader
from api.errors import errors
from api.event_stream import MEDIA_TYPE, event_stream
from api.examples import EVENTS
from api.programs import ServiceKeyHeader, TaskReader, read_tasks
from api.routing import Router
from api.schemas.task_events import EventsQuery, EventsTokenRead
from core.clock import now_ms, utc
from core.errors import NotFound, RateLimited, Unauthorized
from services.tasks.streams import TooManyStreams

router = Router(prefix="/api/v1/tasks", tags=["tasks"])

Watched = Annotated[EventsQuery, Query()]

STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {
    **errors(Unauthorized, NotFound, RateLimited, TooManyStreams),
    200: {
        "description": "Server-Sent Events, until the task has ended",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": EVENTS}},
    },
    204: {"description": "the event of `Last-Event-ID` was the last one"},
}


async def watching_user(
    request: Request, task_id: str, query: Watched, services: Services, bearer: Bearer, key: ServiceKeyHeader
) -> str:
    """By a token in the address, else by the caller's own or a service key; answers the user's id."""
    if query.token is None:
        return (await read_tasks(request, services, bearer, key)).user_id
    user_id = await services.event_tokens.reader(query.token.get_secret_value(), task_id, now_ms())
    if user_id is None:
        raise Unauthorized("token_invalid_or_expired")
    await admit_reader(request, services, user_id)
    return user_id


@router.get(
    "/{task_id}/events",
    response_class=Response,
    responses=STREAM_RESPONSES,
    openapi_extra={"security": [{}]},  # beside the token: one in the address
)
async def watch_task(
    task_id: str,
    query: Watched,
    services: Services,
    user_id: Annotated[str, Depends(watching_user)],
    last_event_id: Annotated[str, Header(description="the id of the last event that was seen")] = "",
) -> Response:
    """The events of one of my tasks: those behind `Last-Event-ID`, else all, then each as it happens."""
    last_id = last_event_id or query.last_event_id
    return await event_stream(task_id, services.task_streams.watch(user_id, task_id, last_id))


@router.post("/{task_id}/events-token", responses=errors(Unauthorized, NotFound, RateLimited))
async def create_events_token(task_id: str, caller: TaskReader, services: Services) -> EventsTokenRead:
    """A token for the address, since a browser's EventSource sends no header. It lives for 24 h."""
    token, expires_at = await services.event_tokens.issue(caller.user_id, task_id, now_ms())
    return EventsTokenRead(token=token, expires_at=utc(expires_at))
