"""What storage can answer besides the object itself; StorageUnavailable (core.errors) stands for all that is broken."""


class ObjectNotFound(Exception):
    """There is no object of this key."""


class ObjectExists(Exception):
    """An object of this key is there already; the new bytes were not stored."""
