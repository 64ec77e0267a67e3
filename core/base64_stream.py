"""Base64 that arrives in pieces of any length, as it stands inside a JSON string."""

import re

import pybase64

_ESCAPE = re.compile(rb'\\u([0-9a-fA-F]{4})|\\(["\\/])')
_OPEN_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class DamagedBase64(ValueError):
    """The text is no base64, or goes on after its end."""


class Base64Stream:
    """`feed` it the text in order, then `end` it. Both alphabets are taken; white space is not."""

    def __init__(self) -> None:
        self._left_over = b""
        self._padded = False

    def feed(self, text: bytes) -> bytes:
        """What this piece completes. Raises DamagedBase64."""
        text = self._left_over + text if self._left_over else text
        if b"\\" in text:
            text = self._unescape(text)
        else:
            self._left_over = b""
        whole = len(text) - len(text) % 4
        self._left_over = text[whole:] + self._left_over
        return self._decode(text[:whole])

    def end(self) -> None:
        """No more comes. Raises DamagedBase64."""
        if self._left_over:
            raise DamagedBase64("base64 of an odd length")

    def _unescape(self, text: bytes) -> bytes:
        """Resolve JSON escapes (Google may write `=` as `\\u003d`); one that is cut off waits for the next piece."""
        tail = _OPEN_ESCAPE.search(text)
        self._left_over = tail.group() if tail else b""
        if tail:
            text = text[: tail.start()]
        # "replace": an escape may name half of a surrogate pair, which is no base64 either.
        return _ESCAPE.sub(lambda m: chr(int(m[1], 16)).encode("utf-8", "replace") if m[1] else m[2], text)

    def _decode(self, text: bytes) -> bytes:
        if not text:
            return b""
        if self._padded:
            # The decoder sees pieces only: what follows the padding of an earlier one is for us to find.
            raise DamagedBase64("base64 goes on after its end")
        self._padded = text.endswith(b"=")
        if b"-" in text or b"_" in text:
            text = text.translate(_URL_SAFE)
        try:
            return pybase64.b64decode(text, validate=True)
        except ValueError as error:
            raise DamagedBase64("damaged base64") from error
