"""Folders of ours in places where everybody may write."""

import hashlib
import os
import stat
from pathlib import Path

PRIVATE = 0o700


class NotPrivate(Exception):
    """What stands there belongs to somebody else; `str()` is one line."""


def private_folder(place: Path, owner: Path) -> Path:
    """Make the folder in `place` that belongs to `owner` (absolute), the same each time, for this user alone.

    Raises NotPrivate, and OSError when `place` can't be written.
    """
    digest = hashlib.sha256(os.fsencode(owner)).hexdigest()[:16]
    folder = place / f"nbl-{os.getuid()}-{digest}"
    folder.mkdir(mode=PRIVATE, exist_ok=True)
    # Anyone may make a folder of that name there: one that is not ours alone could lead our data elsewhere.
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise NotPrivate(f"{folder} must be a folder that belongs to this user alone; remove it")
    return folder
