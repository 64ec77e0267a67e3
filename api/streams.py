"""Answers that are made while they are sent, and what a download is called."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import quote

from fastapi.responses import StreamingResponse

_UNSAFE = re.compile(r'[^\x20-\x7e]|["\\%]')


def attachment(name: str) -> str:
    """The header that names a download (RFC 6266): images of the old app have letters of any script in their names."""
    plain = _UNSAFE.sub("_", name)
    return f'attachment; filename="{plain}"' + ("" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}")


async def streamed_file(pieces: AsyncGenerator[bytes], *, name: str, media_type: str) -> StreamingResponse:
    """A download. Its first piece is there before the answer starts, so that what fails by then is an error like any
    other; what fails later breaks the connection off, so that nobody takes a part for the whole.
    """
    first = await anext(pieces, b"")
    headers = {"content-disposition": attachment(name)}
    return StreamingResponse(_joined(first, pieces), headers=headers, media_type=media_type)


async def _joined(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
