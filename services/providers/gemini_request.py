"""The body of `generateContent`: small parts of JSON, and between them images that are encoded while they are sent.

14 images of 20 MB would be 370 MB of text, and as much again as JSON; here one piece of one image is in memory.
"""

import functools
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from typing import Any

import orjson
import pybase64

from services.providers.base import ImageRequest
from services.references.models import ReferenceImage
from services.storage.threads import on_disk

PIECE_BYTES = 384 * 1024  # whole groups of three bytes, so that the texts of the pieces join to that of the whole
STYLE_INSTRUCTION = (
    "Redraw the first image in the style of the second: keep what the first one shows, and take colours, light, "
    "brushwork and texture from the second."
)
SAFETY_THRESHOLDS = {
    "strict": "BLOCK_LOW_AND_ABOVE",
    "moderate": "BLOCK_MEDIUM_AND_ABOVE",
    "relaxed": "BLOCK_ONLY_HIGH",
    "none": "BLOCK_NONE",
}
HARM_CATEGORIES = (
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)


class Body:
    """The body for one image. `size` in bytes."""

    def __init__(self, request: ImageRequest) -> None:
        prompt = f"{STYLE_INSTRUCTION}\n\n{request.prompt}" if request.style_transfer else request.prompt
        text = orjson.dumps({"text": prompt})
        self._start = b'{"contents":[{"role":"user","parts":[' + text
        self._images = [(_image_start(image), image) for image in request.references]
        self._end = b"]}]," + orjson.dumps(_settings(request))[1:]
        self.size = len(self._start) + len(self._end) + sum(map(_size, self._images))

    @property
    def has_images(self) -> bool:
        return bool(self._images)

    def whole(self) -> bytes:
        """All of a body without images."""
        return self._start + self._end

    async def pieces(self, threads: Executor) -> AsyncIterator[bytes]:
        """In order; files are read and encoded in `threads`. Raises StorageUnavailable."""
        yield self._start
        for start, image in self._images:
            yield start
            for offset in range(0, image.size, PIECE_BYTES):
                yield await on_disk(threads, functools.partial(_encoded, image, offset))
            yield _IMAGE_END
        yield self._end


_IMAGE_END = b'"}}'


def _image_start(image: ReferenceImage) -> bytes:
    return b',{"inlineData":{"mimeType":"%s","data":"' % image.mime_type.encode()


def _size(entry: tuple[bytes, ReferenceImage]) -> int:
    start, image = entry
    return len(start) + -(-image.size // 3) * 4 + len(_IMAGE_END)


def _encoded(image: ReferenceImage, offset: int) -> bytes:
    with image.path.open("rb") as file:
        file.seek(offset)
        return pybase64.b64encode(file.read(PIECE_BYTES))


def _settings(request: ImageRequest) -> dict[str, Any]:
    """All but the contents."""
    config: dict[str, Any] = {
        "responseModalities": ["TEXT", "IMAGE"],
        "imageConfig": {"aspectRatio": request.aspect_ratio, "imageSize": request.resolution},
    }
    if request.enable_thinking:
        config["thinkingConfig"] = {"includeThoughts": True}
    if request.seed is not None:
        config["seed"] = request.seed
    threshold = SAFETY_THRESHOLDS[request.safety_level]
    settings: dict[str, Any] = {
        "generationConfig": config,
        "safetySettings": [{"category": category, "threshold": threshold} for category in HARM_CATEGORIES],
    }
    if request.grounded:
        settings["tools"] = [{"google_search": {}}]
    return settings
