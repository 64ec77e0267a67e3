"""What is found in storage, and what becomes of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from core.clock import Milliseconds
from services.history.models import Image
from services.quota.models import Reservation
from services.storage.base import ObjectInfo

PROGRESS_IMAGES = 10_000

Tell = Callable[[str], None]

SOURCES: Mapping[str, str] = {
    "record": "from their records",
    "metadata": "from the object's metadata, without a charge",
    "key": "from the key alone, without a charge",
}
ODDITIES: Mapping[str, str] = {
    "unreadable": "record that cannot be read",
    "no_image": "record without its image",
    "deleted": "image that was deleted for good before",
    "task_over": "image that a task has left which is over",
    "refused": "image that the database refuses",
    "no_owner": "image that has no record and lies in nobody's folder",
    "no_picture": "image that has no record and is no picture that we keep",
    "unknown": "object that is neither",
}


@dataclass(frozen=True)
class Found:
    """All that lies under one stem: an image and its record, when all is well."""

    stem: str
    images: tuple[ObjectInfo, ...]
    record: ObjectInfo | None
    others: tuple[ObjectInfo, ...]


@dataclass(frozen=True)
class Entry:
    """What is to be indexed. `owner_folder_id` is of the account that has it, `user_id` of the image empty where
    nothing tells whose it is but that; `modified_at` when the object was last written that says all this.
    """

    image: Image
    charge: Reservation | None
    owner_folder_id: str
    source: str
    modified_at: Milliseconds


class Tally(Protocol):
    """What is counted while images are entered. `accounts`: folders of those that the database did not know."""

    there: int
    under_way: int
    accounts: set[str]

    def count_indexed(self, entry: Entry) -> None: ...

    def found_odd(self, kind: str, key: str, reason: str = "") -> None: ...


@dataclass
class Report:
    """Counts, of images where it does not say otherwise. `tell` is called with a line for whatever is odd.

    `accounts`: folders of those that the database did not know.
    """

    tell: Tell
    seen: int = 0
    there: int = 0
    indexed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SOURCES, 0))
    charged: int = 0
    points: int = 0
    accounts: set[str] = field(default_factory=set)
    under_way: int = 0
    odd: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ODDITIES, 0))
    legacy_images: int = 0
    legacy_indexes: int = 0

    def count_images(self, count: int) -> None:
        self.seen += count
        if self.seen // PROGRESS_IMAGES > (self.seen - count) // PROGRESS_IMAGES:
            self.tell(f"{self.seen} images looked at")

    def count_indexed(self, entry: Entry) -> None:
        self.indexed[entry.source] += 1
        if entry.charge is not None:
            self.charged += 1
            self.points += entry.charge.points // entry.charge.count

    def found_odd(self, kind: str, key: str, reason: str = "") -> None:
        """`kind` is one of ODDITIES."""
        self.odd[kind] += 1
        self.tell(f"{ODDITIES[kind]}: {key}" + (f" ({reason})" if reason else ""))

    def lines(self) -> Iterator[str]:
        yield f"{self.seen} images in storage"
        yield f"  {self.there} were in the index"
        for source, count in self.indexed.items():
            yield f"  {count} indexed {SOURCES[source]}"
        yield f"  {self.under_way} under way, or just stored: left to their calls, their tasks and the sweep"
        yield f"{self.charged} images charged with {self.points} points"
        yield f"{len(self.accounts)} accounts made for owners whom the database did not know"
        for kind, count in self.odd.items():
            yield f"{count} × {ODDITIES[kind]}"
        yield f"{self.legacy_images} images without a user and {self.legacy_indexes} lists of the old app: not read"


Counting = TypeVar("Counting", bound=Tally, covariant=True)


@dataclass(frozen=True)
class Run(Generic[Counting]):
    """One run. Calls and tasks that stored something before `settled` are over, and what they left is cleared away."""

    report: Counting
    settled: Milliseconds
    dry_run: bool
