"""A JSON body with images in it, while it arrives: the strings of `images`, or that of `image`, go to files, only the
rest is kept.

As one text a body of 64 MiB would be in memory four times over: as bytes, as text, as parsed strings and decoded.
"""

import re
from typing import Any

import orjson

from api.uploads.text_image import TextImage
from core.errors import FieldProblem, PayloadTooLarge, ValidationFailed
from services.references.uploads import Uploads

MAX_REST_BYTES = 256 * 1024

# The quote before the name is one that stands for itself: inside a JSON text it would have a backslash before it.
_ARRAY = re.compile(rb'[{,]\s*"images"\s*:\s*\[')
_SINGLE = re.compile(rb'[{,]\s*"image"\s*:(?=\s*")')
_LONGEST_START = 256
_ITEM = re.compile(rb'\s*,?\s*"')
_BEFORE_ITEM = re.compile(rb"\s*,?\s*")


class JsonReader:
    """`feed` it the body in order, then `finish`. All of it raises the errors of a body that is wrong.

    `single`: there is one image, under `image`.
    """

    def __init__(self, uploads: Uploads, *, single: bool) -> None:
        self._uploads = uploads
        self._single = single
        self._rest = bytearray()
        self._searched = 0
        self._in_array = False
        self._image: TextImage | None = None

    def feed(self, chunk: bytes) -> None:
        while chunk:
            chunk = self._feed_rest(chunk) if self._image is None else self._feed_image(self._image, chunk)

    def finish(self) -> Any:
        """The parsed body, with a place-holder where an image was."""
        if not self._rest:
            raise ValidationFailed([FieldProblem("body", "missing")])
        try:
            return orjson.loads(self._rest)
        except orjson.JSONDecodeError as error:
            raise ValidationFailed([FieldProblem("body", "bad_json")]) from error

    def _feed_rest(self, chunk: bytes) -> bytes:
        self._rest += chunk
        start = self._find_item()
        if start is None:
            if len(self._rest) > MAX_REST_BYTES:
                raise PayloadTooLarge(MAX_REST_BYTES)
            return b""
        remainder = bytes(self._rest[start:])
        del self._rest[start:]
        self._image = TextImage(self._uploads)
        return remainder

    def _find_item(self) -> int | None:
        """Where the text of the next image starts, as far as the body is there."""
        while True:
            if not self._in_array:
                start = (_SINGLE if self._single else _ARRAY).search(self._rest, self._searched)
                if start is None:
                    self._searched = max(self._searched, len(self._rest) - _LONGEST_START)
                    return None
                self._searched, self._in_array = start.end(), True
            item = _ITEM.match(self._rest, self._searched)
            if item is not None:
                return item.end()
            if _BEFORE_ITEM.fullmatch(self._rest, self._searched):
                return None
            # The end of the array, or what is no image, which is for the validation to name.
            self._in_array = False

    def _feed_image(self, image: TextImage, chunk: bytes) -> bytes:
        end = chunk.find(b'"')
        if end < 0:
            image.feed(chunk)
            return b""
        image.feed(chunk[:end])
        image.end()
        self._image = None
        self._rest += self._uploads.place_holder(image.index).encode() + b'"'
        self._searched = len(self._rest)
        self._in_array = not self._single
        return chunk[end + 1 :]
