"""An image in a JSON string, base64 or a data URL, while its text arrives."""

import re

from core.base64_stream import Base64Stream, DamagedBase64
from core.errors import FieldProblem, ValidationFailed
from services.references.uploads import Uploads, field_of

_LONGEST_HEAD = 256
_SCHEME = b"data:"
_DATA_URL = re.compile(rb'data:(image/[\w.+-]+)?(;[\w-]+=[\w."-]+)*;base64,', re.ASCII | re.IGNORECASE)


class TextImage:
    """`feed` it the string as it stands in the JSON, then `end` it. Both raise ValidationFailed by the image's name."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self.index = uploads.open()
        self._base64 = Base64Stream()
        self._head: bytes | None = b""

    def feed(self, text: bytes) -> None:
        if self._head is not None:
            self._head += text
            if len(self._head) < _LONGEST_HEAD:
                return
            text = self._without_head(self._head)
        self._decode(text)

    def end(self) -> None:
        if self._head is not None:
            self._decode(self._without_head(self._head))
        try:
            self._base64.end()
        except DamagedBase64 as error:
            raise self._refused("bad_base64") from error

    def _without_head(self, head: bytes) -> bytes:
        self._head = None
        if head[: len(_SCHEME)].lower() != _SCHEME:
            return head
        # JSON may write a slash with a backslash, before the comma as behind it.
        start, comma, rest = head.partition(b",")
        if _DATA_URL.fullmatch(start.replace(b"\\/", b"/") + comma) is None:
            raise self._refused("bad_data_url")
        return rest

    def _decode(self, text: bytes) -> None:
        try:
            for data in self._base64.feed(text):
                self._uploads.write(self.index, data)
        except DamagedBase64 as error:
            raise self._refused("bad_base64") from error

    def _refused(self, reason: str) -> ValidationFailed:
        return ValidationFailed([FieldProblem(field_of(self.index), reason)])
