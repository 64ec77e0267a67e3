"""Answers that are made while they are sent."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.responses import StreamingResponse


async def streamed_file(pieces: AsyncGenerator[bytes], *, name: str, media_type: str) -> StreamingResponse:
    """A download. Its first piece is there before the answer starts, so that what fails by then is an error like any
    other; what fails later breaks the connection off, so that nobody takes a part for the whole.
    """
    first = await anext(pieces, b"")
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_joined(first, pieces), headers=headers, media_type=media_type)


async def _joined(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
