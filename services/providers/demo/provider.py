"""The `demo` provider: draws a picture from the prompt without any AI, so that everything can be tried without a key.

A prompt may ask for trouble: `[demo:slow=5]` answers after 5 s (at most 600), `[demo:fail=overloaded]` fails as a
provider would (the names are those of FAILURES).
"""

import asyncio
import hashlib
import re
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from importlib import import_module

from pydantic import SecretStr

from core.errors import AppError, StorageUnavailable
from services.moderation.errors import ContentBlocked
from services.providers.base import ImageRequest, ImageResult, Model
from services.providers.errors import (
    NoImage,
    ProviderConnection,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from services.providers.spooled import spooled_image
from services.storage.spool import Spool

LONG_SIDE_PIXELS = {"1K": 1344, "2K": 2688, "4K": 5376}
MAX_SLOW_SECONDS = 600
SOURCES = (
    "<p>DEMO · nothing was searched for; this is where sources would stand.</p>"
    '<ul><li><a href="https://example.com/">example.com</a></li>'
    '<li><a href="https://example.org/">example.org</a></li></ul>'
)
_DIRECTIVE = re.compile(r"\[demo:(slow|fail)=([\w.]{1,20})\]")

FAILURES: dict[str, Callable[[], AppError]] = {
    "safety": lambda: ContentBlocked("demo: asked to block", reason="provider", category="SAFETY"),
    "no_image": lambda: NoImage("The demo provider was asked to answer without an image.", "STOP"),
    "overloaded": lambda: ProviderOverloaded("demo: asked to fail"),
    "unavailable": lambda: ProviderUnavailable("demo: asked to fail"),
    "timeout": lambda: ProviderTimeout("demo: asked to fail"),
    "rate_limited": lambda: ProviderRateLimited("demo: asked to fail"),
    "connection": lambda: ProviderConnection("demo: asked to fail"),
}


class DemoProvider:
    name = "demo"
    needs_key = False

    def __init__(self, spool: Spool, threads: Executor) -> None:
        self._spool = spool
        self._threads = threads

    async def make_image(self, request: ImageRequest) -> ImageResult:
        """Draw. The same prompt, seed and images give the same picture; without a seed the prompt decides."""
        directives = dict(_DIRECTIVE.findall(request.prompt))
        await asyncio.sleep(_seconds(directives.get("slow")))
        failure = FAILURES.get(directives.get("fail", ""))
        if failure is not None:
            raise failure()
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._draw, request)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # A thread cannot be stopped; the file that it still writes is nobody's.
            work.add_done_callback(_remove_image)
            raise

    async def probe(self, model: Model, api_key: SecretStr) -> None:
        """Always there."""

    async def close(self) -> None:
        """Holds nothing open."""

    def _draw(self, request: ImageRequest) -> ImageResult:
        # Loaded with the first picture: brushes and fonts take 3 MB of each process, most of which never draw.
        art = import_module("services.providers.demo.art")
        width, height = image_size(request.aspect_ratio, request.resolution)
        prompt, turns = _without_directives(request.prompt), request.turns or ()
        earlier = [_without_directives(turn.prompt) for turn in turns]
        seed = _prompt_seed(earlier[0] if earlier else prompt) if request.seed is None else request.seed
        if earlier:
            sent = [image for turn in turns for image in turn.references if image is not None]
            draw = partial(art.draw_on, earlier, [*sent, *request.references])
        elif request.references:
            style = request.style_transfer
            draw = partial(art.draw_from, request.references, style_transfer=style)
        else:
            draw = art.draw
        data: bytes = draw(prompt=prompt, seed=seed, width=width, height=height)
        path = self._spool.new_path()
        try:
            path.write_bytes(data)
            image = spooled_image(path, len(data), data)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StorageUnavailable(f"spool: {error.strerror}") from error
        return ImageResult(image, search_sources=SOURCES if request.grounded else None)


def image_size(aspect_ratio: str, resolution: str) -> tuple[int, int]:
    """Width and height in pixels: the ratio exactly, the longer side near that of the resolution."""
    across, down = (int(part) for part in aspect_ratio.split(":"))
    unit = max(1, LONG_SIDE_PIXELS[resolution] // max(across, down))
    return across * unit, down * unit


def _remove_image(work: asyncio.Future[ImageResult]) -> None:
    if not work.cancelled() and work.exception() is None:
        work.result().image.remove()


def _without_directives(prompt: str) -> str:
    return _DIRECTIVE.sub("", prompt).strip()


def _seconds(text: str | None) -> float:
    try:
        return min(MAX_SLOW_SECONDS, max(0.0, float(text or 0)))
    except ValueError:
        return 0.0


def _prompt_seed(prompt: str) -> int:
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4])
