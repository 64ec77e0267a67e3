"""Images without a record: what their metadata, their key and their first bytes tell."""

import asyncio
import io
from datetime import UTC, tzinfo

from PIL import Image as Pixels

from core.clock import local_to
from core.ids import keyed_id
from core.pictures import BROKEN_PICTURE
from services.history.models import Image
from services.history.object_metadata import read_object_metadata
from services.providers.base import ImageFacts
from services.providers.spooled import MIME_TYPES
from services.reindex.models import Entry
from services.storage.base import ObjectInfo, Reader
from services.storage.names import KeyFacts, facts_of

HEAD_BYTES = 256 * 1024
UNKNOWN = "unknown"
ORDINARY_MODE = "basic"


class NoOwner(Exception):
    """The key does not say whose it is."""


class NoPicture(Exception):
    """The bytes are no image that we keep."""


async def foundling(storage: Reader, found: ObjectInfo) -> Entry:
    """Raises NoOwner, NoPicture, or ObjectNotFound when it is gone meanwhile."""
    known = facts_of(found.key)
    if known is None:
        raise NoOwner
    return await described(storage, found, found.key, known)


async def described(storage: Reader, found: ObjectInfo, key: str, known: KeyFacts, zone: tzinfo = UTC) -> Entry:
    """An image that is kept, or is to be, under `key`, which says what is `known`; `zone`: of times that name none.

    Raises NoPicture, or ObjectNotFound when it is gone meanwhile.
    """
    metadata = read_object_metadata(await storage.metadata(found.key), zone)
    pixels = await _measured(storage, found.key)
    image = Image(
        id=metadata.image_id or image_id_of(key, known),
        user_id="",
        folder_id=known.folder_id,
        key=key,
        mode=metadata.mode or known.mode or ORDINARY_MODE,
        prompt=metadata.prompt or (known.slug or "").replace("_", " ").strip(),
        aspect_ratio=metadata.aspect_ratio or UNKNOWN,
        resolution=metadata.resolution or UNKNOWN,
        provider=metadata.provider or UNKNOWN,
        model=metadata.model or UNKNOWN,
        duration=metadata.duration or 0.0,
        created_at=local_to(zone, known.made_at) if metadata.created_at is None else metadata.created_at,
        width=pixels.width,
        height=pixels.height,
        size=found.size,
        mime_type=pixels.mime_type,
        call_id="",
        session_id=metadata.session_id,
        chat_index=metadata.chat_index,
    )
    source = "key" if metadata.prompt is None else "metadata"
    return Entry(image, None, known.folder_id, source, found.modified_at)


def image_id_of(key: str, known: KeyFacts) -> str:
    """The id of an image that was given none: it follows from the key, so that whoever reads it next finds the same,
    whatever they take for the zone of its time.
    """
    return keyed_id("img", known.made_at, key)


async def _measured(storage: Reader, key: str) -> ImageFacts:
    head = b"".join([piece async for piece in storage.stream(key, 0, HEAD_BYTES)])
    facts = await asyncio.to_thread(_measure, head)
    if facts is None:
        raise NoPicture
    return facts


def _measure(head: bytes) -> ImageFacts | None:
    try:
        with Pixels.open(io.BytesIO(head), formats=tuple(MIME_TYPES)) as picture:
            return ImageFacts(MIME_TYPES[picture.format or ""], picture.width, picture.height)
    except KeyError:  # a picture of several, which Pillow takes for a format of its own
        return None
    except BROKEN_PICTURE:
        return None
