"""Base64 that arrives in pieces of any length, as it stands inside a JSON string."""

import re
from collections.abc import Iterator

import pybase64

_ESCAPE = re.compile(rb'\\u([0-9a-fA-F]{4})|\\(["\\/])')
_OPEN_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_PADDING = ord("=")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class DamagedBase64(ValueError):
    """The text is no base64, or goes on after its end."""


class Base64Stream:
    """`feed` it the text in order, then `end` it. Both alphabets are taken; white space is not."""

    def __init__(self) -> None:
        self._left_over = b""
        self._padded = False

    def feed(self, text: bytes) -> list[bytes]:
        """What this piece completes, in order. Raises DamagedBase64."""
        open_escape = b""
        if b"\\" in text or b"\\" in self._left_over:
            text, open_escape = _unescaped(self._left_over + text)
            self._left_over = b""
        # Nothing large is copied: what an earlier piece left over is made whole apart from the rest.
        missing = min(-len(self._left_over) % 4, len(text))
        head = self._left_over + text[:missing]
        end = len(text) - (len(text) - missing) % 4
        if len(head) % 4:
            self._left_over = head + open_escape
            return []
        self._left_over = text[end:] + open_escape
        return [*self._decoded(memoryview(head)), *self._decoded(memoryview(text)[missing:end])]

    def end(self) -> None:
        """No more comes. Raises DamagedBase64."""
        if self._left_over:
            raise DamagedBase64("base64 of an odd length")

    def _decoded(self, text: memoryview) -> Iterator[bytes]:
        if not text:
            return
        if self._padded:
            # The decoder sees pieces only: what follows the padding of an earlier one is for us to find.
            raise DamagedBase64("base64 goes on after its end")
        self._padded = text[-1] == _PADDING
        try:
            yield pybase64.b64decode(text, validate=True)
        except ValueError:
            yield _decoded_url_safe(bytes(text))


def _unescaped(text: bytes) -> tuple[bytes, bytes]:
    """Resolve JSON escapes (Google may write `=` as `\\u003d`). Also answers one at the end that is cut off."""
    tail = _OPEN_ESCAPE.search(text)
    if tail:
        text = text[: tail.start()]
    # "replace": an escape may name half of a surrogate pair, which is no base64 either.
    whole = _ESCAPE.sub(lambda m: chr(int(m[1], 16)).encode("utf-8", "replace") if m[1] else m[2], text)
    return whole, tail.group() if tail else b""


def _decoded_url_safe(text: bytes) -> bytes:
    try:
        return pybase64.b64decode(text.translate(_URL_SAFE), validate=True)
    except ValueError as error:
        raise DamagedBase64("damaged base64") from error
