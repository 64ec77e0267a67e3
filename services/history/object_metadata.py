"""What stands beside an image as metadata of its object: the old app's words, and ours besides (SPEC section 14).

Values are ASCII, since they travel as headers; the prompt is URL-quoted. The old app wrote names with an underscore,
which some servers drop, so we write hyphens and read both.
"""

import itertools
import math
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo

from core.clock import Milliseconds, from_text, rfc3339
from services.history.models import Image

PROMPT_BYTES = 1024
_IMAGE_ID = re.compile(r"img_[0-9a-hjkmnp-tv-z]{26}")
_MODE = re.compile(r"[a-z_]{1,20}")
_MOST_CHAT_INDEX = 2**31 - 1


@dataclass(frozen=True)
class ObjectMetadata:
    """None: the object does not say, or says what cannot be read. `duration` in seconds.

    `prompt` may be cut. Without an `image_id` the object is not ours but of the app that came before.
    """

    prompt: str | None = None
    mode: str | None = None
    duration: float | None = None
    aspect_ratio: str | None = None
    resolution: str | None = None
    created_at: Milliseconds | None = None
    session_id: str | None = None
    chat_index: int | None = None
    image_id: str | None = None
    provider: str | None = None
    model: str | None = None


def object_metadata(image: Image) -> dict[str, str]:
    metadata = {
        "prompt": _quoted(image.prompt),
        "mode": image.mode,
        "duration": str(image.duration),
        "aspect-ratio": image.aspect_ratio,
        "resolution": image.resolution,
        "created-at": rfc3339(image.created_at),
        "image-id": image.id,
        "provider": image.provider,
        "model": image.model,
    }
    optional = {"session-id": image.session_id, "chat-index": image.chat_index}
    metadata |= {name: str(value) for name, value in optional.items() if value is not None}
    # An operator may have named a model in letters that no header takes.
    return {name: value if value.isascii() else _quoted(value) for name, value in metadata.items()}


def read_object_metadata(found: Mapping[str, str], zone: tzinfo = UTC) -> ObjectMetadata:
    """What the old app or we wrote, whatever has become of the names on the way; the rest is left out.

    `zone`: where the old app ran, which wrote times without one.
    """
    values = {name.lower().replace("_", "-"): value for name, value in found.items()}
    return ObjectMetadata(
        prompt=_text(values.get("prompt")),
        mode=_fitting(_MODE, values.get("mode")),
        duration=_seconds(values.get("duration")),
        aspect_ratio=_text(values.get("aspect-ratio")),
        resolution=_text(values.get("resolution")),
        created_at=from_text(values.get("created-at"), zone),
        session_id=_text(values.get("session-id")),
        chat_index=_index(values.get("chat-index")),
        image_id=_fitting(_IMAGE_ID, values.get("image-id")),
        provider=_text(values.get("provider")),
        model=_text(values.get("model")),
    )


def _quoted(text: str) -> str:
    """URL-quoted, and cut between two characters, so that what is left can be read back."""
    whole = urllib.parse.quote(text)
    if len(whole) <= PROMPT_BYTES:
        return whole
    quoted = [urllib.parse.quote(character) for character in text[:PROMPT_BYTES]]
    lengths = itertools.accumulate(len(part) for part in quoted)
    return "".join(part for part, length in zip(quoted, lengths, strict=True) if length <= PROMPT_BYTES)


def _text(value: str | None) -> str | None:
    # No database takes a NUL character everywhere.
    return urllib.parse.unquote(value).replace("\0", "") or None if value else None


def _fitting(pattern: re.Pattern[str], value: str | None) -> str | None:
    return value if value is not None and pattern.fullmatch(value) else None


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _index(value: str | None) -> int | None:
    try:
        index = int(value or "")
    except ValueError:
        return None
    return index if 0 <= index <= _MOST_CHAT_INDEX else None
