"""What the tests of Gemini share: what the stand-in was asked for an image, and what a failed call must not leave."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from benchmarks.gemini_standin import GeminiStandin, RecordedRequest
from tests.support.databases import databases
from tests.support.service import RunningService

ONE_TRY = "[providers.gemini]\nmax_retries = 0\n[providers.demo]\nmax_retries = 0\n"


def override_catalog(folder: Path, text: str = ONE_TRY) -> None:
    """Write the operator's models.toml into the DATA_DIR that `open_service` uses for this test."""
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "models.toml").write_text(text, encoding="utf-8")


def image_calls(gemini: GeminiStandin) -> list[RecordedRequest]:
    """Calls of image models; those of text models are moderation's."""
    return [call for call in gemini.requests() if "-image" in call["path"] or "banana" in call["path"]]


def kept_files(service: RunningService) -> list[Path]:
    """Files of images, finished or in the making, with their records and thumbnails."""
    spooled = [path for path in (service.data_dir / "spool").iterdir() if path.is_file()]
    return spooled + [path for top in ("users", "unlisted", "thumbnails") for path in service.stored(f"{top}/**/*")]


def image_rows(service: RunningService) -> int:
    ((count,),) = databases.ask(service.data_dir, "SELECT count(*) FROM images")
    return int(count)


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert body["success"] is False
    error: dict[str, Any] = body["error"]
    return error


def answer_with(*parts: dict[str, Any], **candidate: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts)}, "finishReason": "STOP", **candidate}]}


async def upstream_bytes(gemini: GeminiStandin, call: Any) -> bytes:
    """What the stand-in answers when it is asked the same again; its pictures are always the same."""
    async with httpx.AsyncClient(base_url=gemini.url) as client:
        answer = await client.post(call["path"], json=call["body"], headers={"x-goog-api-key": "good-key"})
    parts = answer.json()["candidates"][0]["content"]["parts"]
    (image,) = [part["inlineData"]["data"] for part in parts if "inlineData" in part and not part.get("thought")]
    return base64.b64decode(image, altchars=b"-_" if "-" in image or "_" in image else None)


@contextmanager
def file_instead_of(folder: Path) -> Iterator[None]:
    """As a disk that is broken: a plain file stands where the folder belongs."""
    aside = folder.with_name(folder.name + ".aside")
    folder.rename(aside)
    folder.write_bytes(b"")
    try:
        yield
    finally:
        folder.unlink()
        aside.rename(folder)


@asynccontextmanager
async def upstream_saying(status: int, pieces: Sequence[bytes], pause_seconds: float = 0.0) -> AsyncIterator[str]:
    """A server that answers each call with these pieces of a body, and its URL: for what Google would never say."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(status=status, headers={"content-type": "application/json"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(pause_seconds)
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
