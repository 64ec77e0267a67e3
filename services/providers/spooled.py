"""What a provider sent is an image that we keep, or an error."""

import contextlib
from io import BytesIO
from pathlib import Path

from PIL import Image as Pixels

from core.pictures import BROKEN_PICTURE
from services.providers.base import ImageFacts, SpooledImage
from services.providers.errors import ProviderUnavailable

MIME_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


def spooled_image(path: Path, size: int, head: bytes) -> SpooledImage:
    """Read format and pixels of a file of `size` bytes that begins with `head`.

    May have to look into the file, so it belongs in a thread. Raises ProviderUnavailable for what we do not keep, and
    OSError.
    """
    # Nearly always enough, and then nothing is opened.
    with contextlib.suppress(*BROKEN_PICTURE):
        return SpooledImage(path, size, _facts(BytesIO(head)))
    try:
        return SpooledImage(path, size, _facts(path))
    except BROKEN_PICTURE as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk's, not the picture's
        raise ProviderUnavailable(f"the provider sent no image: {error}", retryable=False) from error


def _facts(source: Path | BytesIO) -> ImageFacts:
    with Pixels.open(source, formats=tuple(MIME_TYPES)) as picture:
        return ImageFacts(MIME_TYPES[picture.format or ""], picture.width, picture.height)
