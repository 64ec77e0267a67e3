"""Opaque ids: a prefix that tells what it is, 10 characters of time, 16 that cannot be guessed.

The time in front keeps rows of one day together in an index; 80 random bits keep ids from being guessed.
"""

import hashlib
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
_TIME_CHARACTERS = 10
_RANDOM_BITS = 80


def _encode(value: int, characters: int) -> str:
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(5 * (characters - 1), -1, -5))


def new_id(prefix: str) -> str:
    """Make an id such as `call_01jd…` (prefix, `_`, 26 characters)."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{prefix}_{_encode(milliseconds, _TIME_CHARACTERS)}{_encode(secrets.randbits(_RANDOM_BITS), 16)}"


def keyed_id(prefix: str, milliseconds: int, key: str) -> str:
    """Make the id that belongs to a key and a time: the same each time it is asked for."""
    digest = hashlib.blake2b(f"{prefix}:{milliseconds}:{key}".encode(), digest_size=_RANDOM_BITS // 8).digest()
    return f"{prefix}_{_encode(milliseconds, _TIME_CHARACTERS)}{_encode(int.from_bytes(digest), 16)}"


def derived_id(prefix: str, origin: str, index: int) -> str:
    """Make the id of the `index`-th thing of `origin`: the same each time it is asked for.

    `origin` is an id made by `new_id`, whose time carries over.
    """
    digest = hashlib.blake2b(f"{prefix}:{origin}:{index}".encode(), digest_size=_RANDOM_BITS // 8).digest()
    time_part = origin.rpartition("_")[2][:_TIME_CHARACTERS]
    return f"{prefix}_{time_part}{_encode(int.from_bytes(digest), 16)}"
