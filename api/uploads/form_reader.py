"""A multipart body (RFC 7578) while it arrives: the parts named `images`, or the one named `image`, go to files, the
others are texts.
"""

from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from core.errors import FieldProblem, PayloadTooLarge, ValidationFailed
from services.references.uploads import Uploads

MAX_TEXT_BYTES = 256 * 1024
MAX_PARTS = 64
IMAGES, IMAGE = "images", "image"


def boundary_of(content_type: str) -> bytes:
    """Raises ValidationFailed."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _refused()
    return boundary


class FormReader:
    """`feed` it the body in order, then `finish`. All of it raises the errors of a body that is wrong.

    `single`: there is one image, under `image`.
    """

    def __init__(self, uploads: Uploads, boundary: bytes, *, single: bool) -> None:
        self._uploads = uploads
        self._single = single
        self._fields: dict[str, Any] = {}
        self._header = (bytearray(), bytearray())
        self._name = ""
        self._text = bytearray()
        self._image: int | None = None
        self._parts = self._text_bytes = 0
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._content_begins,
                    "on_part_data": self._content,
                    "on_part_end": self._part_ends,
                    "on_end": self._ends,
                },
            )
        except FormParserError as error:
            raise _refused() from error

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _refused() from error

    def finish(self) -> dict[str, Any]:
        """The fields, with place-holders where images were. A name that came twice has its last value."""
        if not self._ended:
            raise _refused()
        return self._fields

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _refused()
        self._name, self._image = "", None
        self._text.clear()

    def _header_ends(self) -> None:
        name, value = self._header
        if bytes(name).lower() == b"content-disposition":
            self._name = parse_options_header(value.decode("latin-1"))[1].get(b"name", b"").decode("utf-8", "replace")
        name.clear()
        value.clear()

    def _content_begins(self) -> None:
        if not self._name:
            raise _refused()
        if self._name != (IMAGE if self._single else IMAGES):
            return
        self._image = self._uploads.open()
        if self._single:
            self._fields[IMAGE] = self._uploads.place_holder(self._image)
        else:
            self._fields.setdefault(IMAGES, []).append(self._uploads.place_holder(self._image))

    def _content(self, data: bytes, start: int, end: int) -> None:
        if self._image is not None:
            self._uploads.write(self._image, data[start:end])
            return
        self._text_bytes += end - start
        if self._text_bytes > MAX_TEXT_BYTES:
            raise PayloadTooLarge(MAX_TEXT_BYTES)
        self._text += data[start:end]

    def _part_ends(self) -> None:
        if self._image is not None:
            return
        try:
            self._fields[self._name] = self._text.decode()
        except UnicodeDecodeError as error:
            raise ValidationFailed([FieldProblem(self._name[:100], "bad_text")]) from error

    def _ends(self) -> None:
        self._ended = True


def _refused() -> ValidationFailed:
    return ValidationFailed([FieldProblem("body", "bad_multipart")])
