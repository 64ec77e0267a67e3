"""What storage can answer besides the object itself; StorageUnavailable (core.errors) stands for all that is broken."""

from core.errors import StorageUnavailable


class ObjectNotFound(Exception):
    """There is no object of this key."""


class ObjectExists(Exception):
    """An object of this key is there already; the new bytes were not stored."""


class MaybeStored(StorageUnavailable):
    """The storage may have taken the bytes though it failed, and did not let go of them either."""
