"""What somebody made: listed, shown, marked, deleted, brought back, handed on."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from core.clients.database import Database
from core.clock import now_ms
from core.errors import InternalError, NotFound
from core.failpoints import FailPoints
from core.paging import Page
from services.history import batches, entries, store, trash
from services.history.clearing import Clearings
from services.history.models import EntryPage, HistoryFilter, Image, ListedImage, Sort, Wanted
from services.history.pages import Pages
from services.history.record_changes import RecordChanges
from services.history.records import Owner
from services.history.removal import Remover
from services.storage.base import Storage

READ_BATCH = 100
CHANGES_AT_ONCE = 8


class HistoryService:
    def __init__(
        self, database: Database, storage: Storage, remover: Remover, clearings: Clearings, fail_points: FailPoints
    ) -> None:
        self._database = database
        self._remover = remover
        self._clearings = clearings
        self._records = RecordChanges(database, storage, fail_points)
        self._fail_points = fail_points
        self._pages = Pages(database)

    async def add(self, image: Image, charge: Callable[[Connection], None] | None) -> bool:
        """Index an image and charge it, in one transaction. False: it was indexed before, nothing is charged again.

        Raises InternalError when the database refuses the rows for any other reason.
        """

        def work(connection: Connection) -> None:
            store.add_image(connection, image)
            if charge is not None:
                charge(connection)

        try:
            await self._database.write(work)
        except IntegrityError as error:
            if await self._find(image.id) is None:
                # Not the error itself: its text holds the whole row, with the prompt, which no log may have.
                raise InternalError(f"image {image.id} refused: {error.orig}") from None
            return False
        return True

    async def page(self, user_id: str, where: HistoryFilter, sort: Sort, limit: int, offset: int) -> Page[ListedImage]:
        return await self._pages.page(user_id, where, sort, limit, offset)

    async def grouped_page(self, user_id: str, where: HistoryFilter, sort: Sort, limit: int, offset: int) -> EntryPage:
        """The same, with one entry for the images of a chat or batch."""
        return await self._pages.grouped_page(user_id, where, sort, limit, offset)

    async def search(self, user_id: str, wanted: Wanted, limit: int, offset: int) -> EntryPage:
        """A page of what is found, and how much is found."""
        return await self._database.read(
            partial(entries.search_page, user_id=user_id, wanted=wanted, limit=limit, offset=offset)
        )

    async def iterate(self, user_id: str, where: HistoryFilter) -> AsyncGenerator[Image]:
        """All listed images that fit, whole, the newest first; a batch of them in memory at a time."""
        after: Image | None = None
        while True:
            some = await self._database.read(
                partial(batches.next_listed, user_id=user_id, where=where, after=after, limit=READ_BATCH)
            )
            for image in some:
                yield image
            if len(some) < READ_BATCH:
                return
            after = some[-1]

    async def iterate_ids(self, user_id: str, image_ids: Sequence[str]) -> AsyncGenerator[Image]:
        """Those of these images that are listed and the user's, whole, each once, in this order."""
        wanted = list(dict.fromkeys(image_ids))
        for start in range(0, len(wanted), READ_BATCH):
            some = wanted[start : start + READ_BATCH]
            found = await self._database.read(partial(batches.listed_by_id, user_id=user_id, image_ids=some))
            for image_id in some:
                if image_id in found:
                    yield found[image_id]

    async def indexed_among(self, keys: Collection[str]) -> set[str]:
        """Those of these storage keys that are in the index, be it in the trash or on their way out."""
        return await self._database.read(lambda connection: batches.keys_among(connection, keys))

    async def get(self, user_id: str, image_id: str) -> Image:
        """One image of the caller's history. Raises NotFound, also for another's, an unlisted or a deleted one."""
        image = await self._find(image_id)
        if image is None or image.user_id != user_id or not image.listed or image.deleted_at is not None:
            raise NotFound(f"image {image_id}")
        return image

    async def find_for_link(self, image_id: str) -> Image | None:
        """An image for whoever holds its link: listed or not, but not from the trash."""
        image = await self._find(image_id)
        return None if image is None or image.deleted_at is not None else image

    async def find_any(self, image_id: str) -> Image | None:
        """An image that has a row, in the trash or not."""
        return await self._find(image_id)

    async def set_favorite(self, user_id: str, image_id: str, is_favorite: bool) -> None:
        """Raises NotFound as `get` does."""
        image = await self.get(user_id, image_id)
        if not await self._records.change(image, is_favorite=is_favorite):
            raise NotFound(f"image {image_id}")

    async def adopt(self, guest_id: str, user_id: str, folder_id: str | None = None) -> None:
        """What a guest made is this user's from now on, and stays: what is listed no longer goes by itself.

        The objects stay where they are, under the folder that the image knows as its own; `folder_id` is the user's,
        for the records. To be called again after a crash, and once nothing of the guest is under way any more.
        """
        owner = None if folder_id is None else Owner(user_id, folder_id)
        while some := await self._database.read(
            lambda connection: batches.remaining_of(connection, guest_id, READ_BATCH)
        ):
            for start in range(0, len(some), CHANGES_AT_ONCE):
                await asyncio.gather(
                    *(
                        self._records.change(
                            image, owner=owner, user_id=user_id, expires_at=None if image.listed else image.expires_at
                        )
                        for image in some[start : start + CHANGES_AT_ONCE]
                    )
                )

    async def delete(self, user_id: str, image_id: str, *, final: bool) -> None:
        """Into the trash, from which the worker takes it later; `final`: bytes, record, thumbnail and row go now.

        Raises NotFound; an image that lies in the trash already can still be deleted finally.
        """
        if not await self.delete_many(user_id, [image_id], final=final):
            raise NotFound(f"image {image_id}")

    async def delete_many(self, user_id: str, image_ids: Collection[str], *, final: bool) -> set[str]:
        """The same with several. Answers the ids of those that were the user's to delete."""
        if not final:
            now = now_ms()
            return await self._database.write(lambda connection: trash.move(connection, user_id, image_ids, now))
        doomed = await self._database.write(lambda connection: trash.take(connection, user_id, image_ids))
        self._fail_points.reach("taken")
        await self._remover.remove_all(doomed)
        return {image.id for image in doomed}

    async def clear(self, user_id: str, *, final: bool) -> int:
        """Delete all that is listed now; `final`: at once, and what lies in the trash too. Answers how many they are.

        Objects that are many go in the background, when nobody can see them any more.
        """
        count = await self._clearings.clear(user_id, "final" if final else "trash")
        if final:
            await self._clearings.remove_taken_of(user_id)
        return count

    async def purge_user(self, user_id: str) -> None:
        """Remove all images of a user for good, unlisted ones too. Once this was written down the worker finishes it,
        whatever happens here; what is indexed later needs another call.
        """
        await self._clearings.clear(user_id, "everything")
        await self._clearings.remove_taken_of(user_id)

    async def restore(self, user_id: str, image_id: str) -> Image:
        """Out of the trash again. Raises NotFound once it is gone, or was never there."""
        if not await self._database.write(lambda connection: trash.put_back(connection, user_id, image_id)):
            raise NotFound(f"image {image_id}")
        return await self.get(user_id, image_id)

    async def _find(self, image_id: str) -> Image | None:
        return await self._database.read(lambda connection: store.get_image(connection, image_id))
