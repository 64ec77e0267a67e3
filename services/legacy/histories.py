"""History after history: what its list and its folder say together is entered, for the account of the folder."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from services.history.service import HistoryService
from services.legacy import shelves
from services.legacy.entries import HistoryIndex, read_index
from services.legacy.images import ImageMover, Source
from services.legacy.marks import Marks
from services.legacy.models import ROOTS, Piece, Shelf
from services.legacy.report import Report
from services.reindex.entering import Entering
from services.reindex.foundlings import image_id_of
from services.reindex.listing import side_by_side
from services.reindex.models import Entry, Found, Run
from services.reindex.reading import read_recorded
from services.storage.base import ObjectInfo, Storage
from services.storage.errors import ObjectNotFound
from services.storage.keys import is_folder_id
from services.storage.names import KeyFacts, facts_of


@dataclass
class OpenShelf:
    """A history that is being moved to the account of `folder_id`. `marks`: ids of images that were moved before;
    `marked`: of those that this run has found or moved. `is_there`: it has a list, or images.
    """

    shelf: Shelf
    folder_id: str
    index: HistoryIndex
    marks: set[str]
    is_there: bool
    marked: set[str] = field(default_factory=set)

    def facts_of(self, key: str) -> KeyFacts | None:
        """An image of no user lies in nobody's folder; the account that gets it has one all the same."""
        return facts_of(key if self.shelf.folder_id is not None else f"users/{self.folder_id}/{key}")

    def has_moved(self, key: str, known: KeyFacts) -> bool:
        return image_id_of(key, known) in self.marks


class HistoryMover:
    """`shared_to`: the folder of the account that the history of no user goes to; None: it is left."""

    def __init__(
        self,
        source: Source,
        mover: ImageMover,
        storage: Storage,
        history: HistoryService,
        entering: Entering,
        shared_to: str | None,
    ) -> None:
        self._source = source
        self._mover = mover
        self._storage = storage
        self._history = history
        self._entering = entering
        self._marks = Marks(storage)
        self._shared_to = shared_to

    async def move(self, run: Run[Report]) -> None:
        for root in ROOTS:
            opened: OpenShelf | None = None
            async for shelf, batch in shelves.of_users(self._source.storage, root):
                if opened is None or opened.shelf != shelf:
                    if opened is not None:
                        await self._close(opened, run)
                    opened = await self._open(shelf, shelf.folder_id or "", run.report)
                if is_folder_id(opened.folder_id):
                    await self._move_batch(opened, batch, run)
            if opened is not None:
                await self._close(opened, run)
            await self._move_shared(Shelf(root, None), run)

    async def _move_shared(self, shelf: Shelf, run: Run[Report]) -> None:
        batches = shelves.of_nobody(self._source.storage, shelf.root)
        if self._shared_to is None:
            async for batch in batches:
                keys = [shelf.target(info.key) for found in batch for info in found.images]
                run.report.shared_images += len(set(keys) - await self._history.indexed_among(keys))
            index = await read_index(self._source.storage, shelf, self._source.zone, run.report)
            run.report.shared_entries += len(index)
            return
        opened = await self._open(shelf, self._shared_to, run.report)
        async for batch in batches:
            await self._move_batch(opened, batch, run)
        await self._close(opened, run)

    async def _open(self, shelf: Shelf, folder_id: str, report: Report) -> OpenShelf:
        if not is_folder_id(folder_id):
            report.found_odd("no_account", shelf.prefix)
            return OpenShelf(shelf, folder_id, HistoryIndex(()), set(), is_there=False)
        index = await read_index(self._source.storage, shelf, self._source.zone, report)
        marks = await self._marks.load(_mark_name(shelf))
        return OpenShelf(shelf, folder_id, index, marks, is_there=len(index) > 0)

    async def _close(self, opened: OpenShelf, run: Run[Report]) -> None:
        run.report.histories += opened.is_there
        rest = {entry.target: entry for entry in opened.index.rest()}
        for target in sorted(rest.keys() - await self._history.indexed_among(rest)):
            entry = rest[target]
            known = opened.facts_of(target)
            if known is not None and opened.has_moved(target, known):
                run.report.gone += 1
                continue
            run.report.found_odd("no_day" if await self._is_there(entry.key) else "no_object", entry.key)
        if not run.dry_run and not opened.marked <= opened.marks:
            await self._marks.save(_mark_name(opened.shelf), opened.marks | opened.marked)

    async def _move_batch(self, opened: OpenShelf, batch: Sequence[Found], run: Run[Report]) -> None:
        pieces, recorded = self._pieces(opened, batch, run.report)
        keys = [*pieces, *(info.key for found in recorded for info in found.images)]
        known = await self._history.indexed_among(keys)
        opened.is_there |= bool(keys)
        run.report.count_seen(len(keys))
        run.report.there += len(known)
        fresh = [piece for key, piece in pieces.items() if key not in known]
        entries = await side_by_side(
            partial(self._mover.bring, run=run),
            [piece for piece in fresh if not await self._is_gone(opened, piece, run.report)],
        )
        lost = [found for found in recorded if not any(info.key in known for info in found.images)]
        entries += await self._of_records(lost, run.report)
        await self._entering.enter(entries, run)
        if not run.dry_run:
            moved = await self._history.indexed_among(list(pieces))
            opened.marked |= {image_id_of(key, pieces[key].known) for key in moved}

    def _pieces(
        self, opened: OpenShelf, batch: Sequence[Found], report: Report
    ) -> tuple[dict[str, Piece], list[Found]]:
        """Images by the key that they get, and those that have their record here already."""
        pieces, recorded = dict[str, Piece](), list[Found]()
        for found in batch:
            if self._source.is_own and found.record is not None:
                for info in found.images:
                    opened.index.take(info.key)
                recorded += [found] if found.images else []
                continue
            _report_others(opened.shelf, found, report)
            for info in found.images[:1]:
                piece = self._piece(opened, info, report)
                if piece is not None and piece.key in pieces:
                    report.found_odd("same_key", info.key, f"as {pieces[piece.key].info.key}")
                elif piece is not None:
                    pieces[piece.key] = piece
        return pieces, recorded

    def _piece(self, opened: OpenShelf, info: ObjectInfo, report: Report) -> Piece | None:
        shelf, entries = opened.shelf, opened.index.take(info.key)
        if not _is_text(info.key):
            report.found_odd("bad_name", info.key)
            return None
        if not entries:
            report.found_odd("no_entry", info.key)
        for _ in entries[1:]:
            report.found_odd("same_key", info.key)
        key = entries[0].target if entries else shelf.target(info.key)
        known = opened.facts_of(key)
        if known is None:
            report.found_odd("no_day", info.key)
            return None
        return Piece(info, key, known, entries)

    async def _of_records(self, lost: Sequence[Found], report: Report) -> list[Entry]:
        """Of images that have a record and no row those that a run which broke off had moved."""
        read = await side_by_side(partial(read_recorded, storage=self._storage, report=report), lost)
        ours = [entry for entry in read if entry.image.call_id or entry.charge is not None]
        report.left += len(ours)
        return [entry for entry in read if entry not in ours]

    async def _is_gone(self, opened: OpenShelf, piece: Piece, report: Report) -> bool:
        """Whether it was moved here before, and deleted since."""
        if not opened.has_moved(piece.key, piece.known):
            return False
        with suppress(ObjectNotFound):
            await self._storage.stat(piece.key)
            return False
        report.gone += 1
        return True

    async def _is_there(self, key: str) -> bool:
        with suppress(ObjectNotFound):
            await self._source.storage.stat(key)
            return True
        return False


def _report_others(shelf: Shelf, found: Found, report: Report) -> None:
    for info in found.images[1:]:
        report.found_odd("same_name", info.key)
    others = found.others if found.record is None else (*found.others, found.record)
    for info in others:
        if info.key != shelf.index_key:
            report.found_odd("unknown", info.key)


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _mark_name(shelf: Shelf) -> str:
    return shelf.folder_id or "shared"
