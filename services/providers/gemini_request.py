"""The body of `generateContent`: small parts of JSON, and between them images that are encoded while they are sent.

14 images of 20 MB would be 370 MB of text, and as much again as JSON; here one piece of one image is in memory.
"""

import functools
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import orjson
import pybase64

from services.providers.base import ImageRequest, KeptText, SafetyLevel
from services.providers.gemini_contents import Segment, contents
from services.references.models import ReferenceImage
from services.storage.threads import on_disk

PIECE_BYTES = 384 * 1024  # whole groups of three bytes, so that the texts of the pieces join to that of the whole
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
    """What is sent, out of segments. `size` in bytes."""

    def __init__(self, segments: Iterable[Segment]) -> None:
        self._segments = _joined(segments)
        self.size = sum(map(_size, self._segments))

    @property
    def has_files(self) -> bool:
        return len(self._segments) > 1

    def whole(self) -> bytes:
        """All of a body without files."""
        (only,) = self._segments
        assert isinstance(only, bytes)
        return only

    async def pieces(self, threads: Executor) -> AsyncIterator[bytes]:
        """In order; files are read and encoded in `threads`. Raises StorageUnavailable."""
        for segment in self._segments:
            if isinstance(segment, bytes):
                yield segment
                continue
            for offset in range(0, segment.size, PIECE_BYTES):
                yield await on_disk(threads, functools.partial(_piece, segment, offset))


def image_body(request: ImageRequest) -> Body:
    """The body for one image."""
    return Body([*contents(request), orjson.dumps(_settings(request))[1:]])


def safety_settings(level: SafetyLevel) -> list[dict[str, str]]:
    threshold = SAFETY_THRESHOLDS[level]
    return [{"category": category, "threshold": threshold} for category in HARM_CATEGORIES]


def _joined(segments: Iterable[Segment]) -> list[Segment]:
    """With what stands between two files as one."""
    joined: list[Segment] = []
    for segment in segments:
        if isinstance(segment, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += segment
        else:
            joined.append(segment)
    return joined


def _size(segment: Segment) -> int:
    """On the wire."""
    if isinstance(segment, bytes):
        return len(segment)
    return -(-segment.size // 3) * 4 if isinstance(segment, ReferenceImage) else segment.size


def _piece(segment: ReferenceImage | KeptText, offset: int) -> bytes:
    """As it is sent."""
    if isinstance(segment, ReferenceImage):
        return pybase64.b64encode(_read(segment.path, offset, PIECE_BYTES))
    return _read(segment.path, segment.offset + offset, min(PIECE_BYTES, segment.size - offset))


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


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
    settings: dict[str, Any] = {
        "generationConfig": config,
        "safetySettings": safety_settings(request.safety_level),
    }
    if request.grounded:
        settings["tools"] = [{"google_search": {}}]
    return settings
