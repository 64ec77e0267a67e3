"""Server-Sent Events, as the HTML standard has them: events of a task, on the wire as soon as they are told."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import orjson
from fastapi import Response
from fastapi.responses import StreamingResponse

from core.clock import rfc3339
from services.tasks.streams import Notice

MEDIA_TYPE = "text/event-stream"
# After so many milliseconds a browser comes back when the connection is gone.
RETRY_MS = 2000

_HEADERS = {
    # Neither kept nor compressed nor collected on its way.
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",
}


async def event_stream(
    task_id: str, pages: AsyncGenerator[list[Notice]], headers: Mapping[str, str] | None = None
) -> Response:
    """The answer starts when the first page is there, so that what fails by then is an error like any other.

    Who has seen all there will be gets 204, by which a browser knows not to come back. `headers`: beside those of every
    stream.
    """
    headers = {**_HEADERS, **(headers or {})}
    first = await anext(pages, None)
    if first is None:
        return Response(status_code=204, headers=headers, media_type=MEDIA_TYPE)
    return StreamingResponse(_text(task_id, first, pages), headers=headers, media_type=MEDIA_TYPE)


async def _text(task_id: str, first: list[Notice], rest: AsyncGenerator[list[Notice]]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield f"retry: {RETRY_MS}\n\n".encode() + _page(task_id, first)
        async for page in rest:
            yield _page(task_id, page)


def _page(task_id: str, notices: list[Notice]) -> bytes:
    return b"".join(_event(task_id, notice) for notice in notices)


def _event(task_id: str, notice: Notice) -> bytes:
    """JSON has no line breaks of its own, so its text is one line of data."""
    data = orjson.dumps(
        {
            "task_id": task_id,
            "type": notice.type,
            "percent": notice.percent,
            "message": notice.message,
            "timestamp": rfc3339(notice.timestamp),
            "data": notice.data,
        }
    )
    place = b"" if notice.id is None else b"id: %d\n" % notice.id
    return b"%sevent: %s\ndata: %s\n\n" % (place, notice.type.encode(), data)
