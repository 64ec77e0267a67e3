"""Where things stand in storage (SPEC section 14)."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from core.clock import Milliseconds, from_datetime, utc

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_IMAGE_KEY = re.compile(r"users/(?P<folder>[^/]+)/(?P<day>\d{4}/\d\d/\d\d)/(?P<name>[^/]+)\.[A-Za-z]+", re.ASCII)
# The old app put no digits at the end.
_NAME = re.compile(r"(?P<mode>[a-z]+)_(?P<time>\d{6})_(?P<slug>.*?)(?:_[0-9a-f]{6})?", re.ASCII)
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


@dataclass(frozen=True)
class KeyFacts:
    """What the key of somebody's image says by itself. `slug` and `mode` None: its name is not one that we give, nor
    the old app.

    `made_at` is its day's midnight then.
    """

    folder_id: str
    made_at: Milliseconds
    mode: str | None
    slug: str | None


def facts_of(image_key: str) -> KeyFacts | None:
    """None for a key that does not lie in somebody's folder, below a day."""
    found = _IMAGE_KEY.fullmatch(image_key)
    if found is None:
        return None
    day, named = _moment(found["day"], "%Y/%m/%d"), _NAME.fullmatch(found["name"])
    if day is None:
        return None
    made_at = _moment(f"{found['day']} {named['time']}", "%Y/%m/%d %H%M%S") if named else None
    if named is None or made_at is None:
        return KeyFacts(found["folder"], day, None, None)
    return KeyFacts(found["folder"], made_at, named["mode"], named["slug"])


def _moment(text: str, form: str) -> Milliseconds | None:
    try:
        moment = from_datetime(datetime.strptime(text, form).replace(tzinfo=UTC))
    except ValueError:
        return None
    return moment if moment >= 0 else None
