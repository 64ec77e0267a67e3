"""Where things stand in storage (SPEC section 14)."""

import hashlib
import re

from core.clock import Milliseconds, utc

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_SLUG_SOURCE_CHARACTERS = 30
_SLUG_CHARACTERS = 20


def slug(prompt: str) -> str:
    """The first 30 characters with all but ASCII letters and digits as `_`, stripped, at most 20; else `image`."""
    return re.sub(r"[^A-Za-z0-9]", "_", prompt[:_SLUG_SOURCE_CHARACTERS]).strip("_")[:_SLUG_CHARACTERS] or "image"


def image_stem(*, folder_id: str, mode: str, prompt: str, image_id: str, made_at: Milliseconds, listed: bool) -> str:
    """The key of an image without its extension; its record is `{stem}.json`.

    It follows from the image's id and its call's time alone, so that a second try finds what the first one stored.
    """
    moment = utc(made_at)
    name = f"{mode}_{moment:%H%M%S}_{slug(prompt)}_{_six_hex(image_id)}"
    return f"users/{folder_id}/{moment:%Y/%m/%d}/{name}" if listed else f"unlisted/{moment:%Y-%m-%d}/{name}"


def other_stem(stem: str, image_id: str, attempt: int) -> str:
    """The `attempt`-th name of an image: its own at 0, then others, for when its six digits are another's already."""
    return stem if attempt == 0 else stem[:-6] + _six_hex(f"{image_id}:{attempt}")


def _six_hex(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=3).hexdigest()


def record_key(stem: str) -> str:
    return f"{stem}.json"


def thumbnail_key(folder_id: str, image_id: str) -> str:
    return f"thumbnails/{folder_id}/{image_id}.webp"


def stem_of(image_key: str) -> str:
    return image_key.rpartition(".")[0]
