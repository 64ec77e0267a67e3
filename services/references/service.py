"""From files that a caller sent to images that a provider can take: checked, of one frame, with nothing behind it."""

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from PIL import Image as Pixels

from core.errors import FieldProblem
from core.pictures import BROKEN_PICTURE
from core.setting_groups import StorageSettings
from services.references import gif, jpeg, png, webp
from services.references.errors import UnsupportedImage
from services.references.models import Limits, ReferenceImage, Shape
from services.references.uploads import Uploads, field_of
from services.references.walk import Refused, Steps, Walk
from services.storage.spool import Spool
from services.storage.threads import on_disk

MAX_FRAMES = 250
MIME_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif")
_HEAD_BYTES = 12


class ReferenceService:
    """`files` are the threads that read, `pixels` the few that may hold a decoded picture."""

    def __init__(self, spool: Spool, settings: StorageSettings, files: Executor, pixels: Executor) -> None:
        self._spool = spool
        self._files = files
        self._pixels = pixels
        self._limits = Limits(settings.max_image_bytes, settings.max_image_pixels, MAX_FRAMES)

    def uploads(self) -> Uploads:
        """Room for the images of one request."""
        return Uploads(self._spool, self._files, self._limits.bytes)

    async def accept(self, paths: Sequence[Path]) -> tuple[ReferenceImage, ...]:
        """Check all, each by its structure and without decoding it; the files are the caller's to remove then.

        An animation is replaced by its first frame, and a GIF by a PNG, since providers take neither. Raises
        UnsupportedImage with all that is wrong, and the files are gone then.
        """
        kept = list(paths)
        try:
            images = await on_disk(self._files, functools.partial(check_all, paths, self._limits))
            for index, image in enumerate(images):
                if image.mime_type == "image/gif" or (image.mime_type == "image/webp" and image.frames > 1):
                    images[index] = await self._flattened(index, image)
                    kept[index] = images[index].path
            return tuple(images)
        except BaseException:
            for path in kept:
                path.unlink(missing_ok=True)
            raise

    async def digest(self, images: Sequence[ReferenceImage]) -> bytes:
        """The same for the same images in the same order, however they were sent."""
        return await on_disk(self._files, functools.partial(digest, images))

    async def _flattened(self, index: int, image: ReferenceImage) -> ReferenceImage:
        target = self._spool.new_path()
        try:
            still = await on_disk(self._pixels, functools.partial(first_frame, image, target, self._limits))
        except Refused as refused:
            raise UnsupportedImage([_problem(index, refused)]) from refused
        image.remove()
        return still


def check_all(paths: Sequence[Path], limits: Limits) -> list[ReferenceImage]:
    """Raises UnsupportedImage with every image that is refused."""
    images, problems, steps = [], [], Steps()
    for index, path in enumerate(paths):
        try:
            images.append(check(path, limits, steps))
        except Refused as refused:
            problems.append(_problem(index, refused))
    if problems:
        raise UnsupportedImage(problems)
    return images


def check(path: Path, limits: Limits, steps: Steps) -> ReferenceImage:
    """Raises Refused. What a phone wrote behind a JPEG is cut off."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        walk_format = _walker(head)
        file.seek(0)
        shape = walk_format(Walk(file, size, limits, steps))
    if shape.end < size:
        os.truncate(path, shape.end)
    return ReferenceImage(path, shape.mime_type, shape.width, shape.height, shape.frames, shape.end)


def first_frame(image: ReferenceImage, target: Path, limits: Limits) -> ReferenceImage:
    """Write the first frame of a checked image to a file of its own. Raises Refused when there is none to be had."""
    try:
        if image.mime_type == "image/webp":
            return _frame_of_webp(image, target, limits)
        return _frame_of_gif(image, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _frame_of_webp(image: ReferenceImage, target: Path, limits: Limits) -> ReferenceImage:
    with image.path.open("rb") as source, target.open("wb") as file:
        width, height = webp.write_first_frame(Walk(source, image.size, limits, Steps()), file)
    return ReferenceImage(target, image.mime_type, width, height, 1, target.stat().st_size)


def _frame_of_gif(image: ReferenceImage, target: Path) -> ReferenceImage:
    """Decoded, a byte a pixel, and written as a PNG."""
    try:
        with Pixels.open(image.path, formats=("GIF",)) as picture:
            picture.load()
            still = picture if picture.mode in {"L", "P", "RGB", "RGBA"} else picture.convert("RGBA")
            still.info = {name: value for name, value in picture.info.items() if name == "transparency"}
    except BROKEN_PICTURE as wrong:
        raise Refused("image_damaged") from wrong
    still.save(target, "PNG", compress_level=1)
    return ReferenceImage(target, "image/png", still.width, still.height, 1, target.stat().st_size)


def digest(images: Sequence[ReferenceImage]) -> bytes:
    hashes = []
    for image in images:
        with image.path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").digest())
    return b"".join(hashes)


def _walker(head: bytes) -> Callable[[Walk], Shape]:
    if not head:
        raise Refused("image_empty")
    if head.startswith(png.SIGNATURE):
        return png.walk_png
    if head.startswith(jpeg.SIGNATURE):
        return jpeg.walk_jpeg
    if head.startswith(gif.SIGNATURES):
        return gif.walk_gif
    if head.startswith(webp.SIGNATURE) and head[8:12] == webp.FORM:
        return webp.walk_webp
    raise Refused("image_format")


def _problem(index: int, refused: Refused) -> FieldProblem:
    allowed = MIME_TYPES if refused.reason == "image_format" else None
    return FieldProblem(field_of(index), refused.reason, allowed=allowed, limit=refused.limit)
