"""What the app that came before left, in our words."""

from dataclasses import dataclass

from services.history.object_metadata import ObjectMetadata
from services.storage.base import ObjectInfo
from services.storage.names import KeyFacts

DISK = "outputs/web/"
"""Where the old app kept on its own disk what it kept in a bucket; below it the layout is the bucket's."""

ROOTS = ("", DISK)


@dataclass(frozen=True)
class Shelf:
    """One history: somebody's, or with `folder_id` None the one of no user. `root` is one of ROOTS."""

    root: str
    folder_id: str | None

    @property
    def prefix(self) -> str:
        """What the keys of its images start with, in the source."""
        return self.root if self.folder_id is None else f"{self.root}users/{self.folder_id}/"

    @property
    def index_key(self) -> str:
        return f"{self.prefix}history.json"

    def holds(self, key: str) -> bool:
        """Whether a key of the source is one of an image of this history."""
        others = self.folder_id is None and key.startswith(f"{self.root}users/")
        return key.startswith(self.prefix) and not others

    def target(self, key: str) -> str:
        """Under which key an image is kept here."""
        return key.removeprefix(self.root)


@dataclass(frozen=True, slots=True)
class LegacyEntry:
    """One entry of a history.json. `key` of its object in the source, `target` here.

    `is_in_bucket`: it names the key that the old app gave the image in its bucket. `told`: all that an object's
    metadata would say as well, but for the prompt.
    """

    key: str
    target: str
    is_in_bucket: bool
    prompt: str
    told: ObjectMetadata
    text_response: str | None
    thinking: str | None


@dataclass(frozen=True)
class Piece:
    """A found image: `info` of the object in the source, the `key` to keep it under, what its history says."""

    info: ObjectInfo
    key: str
    known: KeyFacts
    entries: tuple[LegacyEntry, ...]
