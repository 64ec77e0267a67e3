"""`Range` requests (RFC 9110, section 14): one range; several are answered whole, as the RFC allows."""

import re

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class UnsatisfiableRange(Exception):
    """The range lies outside of the object."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and length in bytes, None for the whole. Raises UnsatisfiableRange."""
    match = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        if length == 0:
            raise UnsatisfiableRange
        return size - length, length
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if start >= size:
        raise UnsatisfiableRange
    if end < start:
        return None
    return start, end - start + 1
