"""Which texts are keys, for all storages alike, and which keys hold an image."""

import re
from posixpath import splitext

_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif"}
# Of files and folders within a key.
_NO_NAMES = {"", ".", ".."}
_FOLDER_ID = re.compile(r"[0-9a-f]{16}")


def is_key(key: str) -> bool:
    """S3 would take `a//b`, `./a` and `a/` for other objects than `a/b` and `a`; a folder cannot."""
    return "\0" not in key and _NO_NAMES.isdisjoint(key.split("/"))


def check_key(key: str) -> None:
    if not is_key(key):
        raise ValueError(f"not a storage key: {key!r}")


def check_prefix(prefix: str) -> None:
    if prefix.startswith("/") or ".." in prefix.split("/") or "\0" in prefix:
        raise ValueError(f"not a storage key: {prefix!r}")


def holds_image(key: str) -> bool:
    return splitext(key)[1].lower() in _IMAGE_SUFFIXES


def is_folder_id(text: str) -> bool:
    """Whether it may be the name of an account's folder (services/accounts/models.py)."""
    return _FOLDER_ID.fullmatch(text) is not None
