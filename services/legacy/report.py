"""What a move has done, or would do, and each thing that was odd."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson

from services.reindex.models import Entry, Tell

PROGRESS_IMAGES = 1000

MOVED: Mapping[str, str] = {
    "history": "as history.json tells of them",
    "metadata": "as the object's metadata tells of them",
    "key": "as the key alone tells of them",
    "record": "as their records tell of them, which an earlier run has written",
}
ODDITIES: Mapping[str, str] = {
    "no_object": "entry without an object",
    "no_entry": "object without an entry",
    "same_key": "another entry of one key: the old app had overwritten its image",
    "elsewhere": "entry of an image that is not in this history's folder",
    "broken_json": "JSON that cannot be read",
    "broken_entry": "entry that cannot be read",
    "no_picture": "file that is no image that we keep",
    "no_day": "image that lies below no day",
    "same_name": "image that another one shares its name with, but for the ending",
    "other_bytes": "image whose key has another image here",
    "changed": "file that changed while it was read",
    "no_account": "folder that is no account's",
    "bad_name": "name that is no text",
    "unknown": "object that is neither",
    "unreadable": "record that cannot be read",
    "no_image": "record without its image",
    "deleted": "image that was deleted for good before",
    "task_over": "image that a task has left which is over",
    "refused": "image that the database refuses",
}


@dataclass
class Report:
    """Counts, of images where it does not say otherwise. `oddities`: an empty file, since they may be many; `tell` is
    called with a line now and then.
    """

    oddities: BinaryIO
    tell: Tell
    seen: int = 0
    there: int = 0
    moved: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MOVED, 0))
    copied: int = 0
    copied_bytes: int = 0
    gone: int = 0
    left: int = 0
    under_way: int = 0
    histories: int = 0
    accounts: set[str] = field(default_factory=set)
    shared_images: int = 0
    shared_entries: int = 0
    library_added: int = 0
    library_there: int = 0
    keywords_added: int = 0
    keywords_there: int = 0
    favorites: int = 0
    favorites_kept: int = 0
    pool_points: int = 0
    pool_carried: bool = False
    odd: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ODDITIES, 0))

    def count_seen(self, count: int) -> None:
        self.seen += count
        if self.seen // PROGRESS_IMAGES > (self.seen - count) // PROGRESS_IMAGES:
            self.tell(f"{self.seen} images looked at, {sum(self.moved.values())} moved, {self.there} there before")

    def count_indexed(self, entry: Entry) -> None:
        self.moved[entry.source] += 1

    def found_odd(self, kind: str, key: str, reason: str = "") -> None:
        """`kind` is one of ODDITIES. Told at the end."""
        self.odd[kind] += 1
        # A file's name may be no text.
        shown = key.encode(errors="backslashreplace").decode()
        self.oddities.write(orjson.dumps({"kind": kind, "key": shown, "reason": reason}) + b"\n")

    def each_odd(self) -> Iterator[dict[str, str]]:
        self.oddities.seek(0)
        for line in self.oddities:
            yield orjson.loads(line)

    def lines(self) -> Iterator[str]:
        yield f"{self.seen} images in {self.histories} histories"
        yield f"  {self.there} were here"
        for source, count in self.moved.items():
            yield f"  {count} moved in {MOVED[source]}"
        yield f"  {self.copied} of these copied, {self.copied_bytes} bytes"
        yield f"  {self.gone} had been moved in before and deleted here: left"
        yield f"  {self.left} are this service's own, with a record and without a row: scripts/reindex enters them"
        yield f"  {self.under_way} under way, or just stored: left"
        yield f"{len(self.accounts)} accounts made, for whoever signs in with the GitHub account of the folder"
        yield f"{self.shared_images} images and {self.shared_entries} entries of no user left: --shared-to names whose"
        yield f"{self.library_added} prompts added to the library, {self.library_there} were here"
        yield f"{self.keywords_added} banned keywords added, {self.keywords_there} were here"
        yield f"{self.favorites} favorite prompts found, {self.favorites_kept} kept"
        carried = "carried over" if self.pool_carried else "not carried over, or before"
        yield f"{self.pool_points} points of today's pool {carried}"
        for kind, count in self.odd.items():
            if count:
                yield f"{count} × {ODDITIES[kind]}"
        for odd in self.each_odd():
            yield f"{ODDITIES[odd['kind']]}: {odd['key']}" + (f" ({odd['reason']})" if odd["reason"] else "")

    def json_pieces(self) -> Iterator[bytes]:
        """The same as one JSON object, in pieces: counts, and `oddities` with `kind`, `key` and `reason` of each."""
        counts: dict[str, Any] = {
            name: value for name, value in vars(self).items() if name not in {"tell", "oddities", "odd"}
        }
        counts |= {"accounts": sorted(self.accounts), "odd": {kind: n for kind, n in self.odd.items() if n}}
        yield orjson.dumps(counts, option=orjson.OPT_INDENT_2).removesuffix(b"\n}") + b',\n  "oddities": ['
        for number, odd in enumerate(self.each_odd()):
            yield (b"," if number else b"") + b"\n    " + orjson.dumps(odd)
        yield b"\n  ]\n}\n"
