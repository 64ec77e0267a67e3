"""What somebody made: listed, shown, deleted, brought back."""

from collections.abc import Callable

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from core.clients.database import Database
from core.clock import now_ms
from core.errors import InternalError, NotFound
from core.settings import StorageSettings
from services.history import store
from services.history.models import HistoryFilter, Image, Page, Sort
from services.storage.base import Storage
from services.storage.names import record_key, stem_of, thumbnail_key

PURGE_BATCH = 200


class HistoryService:
    def __init__(self, database: Database, storage: Storage, settings: StorageSettings) -> None:
        self._database = database
        self._storage = storage
        self._pages = store.PageStatements(database.compiled)
        self._trash_ms = settings.trash_minutes * 60_000

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

    async def page(self, user_id: str, where: HistoryFilter, sort: Sort, limit: int, offset: int) -> Page:
        statement, values = self._pages.page(user_id, where, sort, limit, offset)
        items, total = store.page_of(await self._database.row(statement, values))
        return Page(items, total, limit, offset)

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

    async def delete(self, user_id: str, image_id: str, *, final: bool) -> None:
        """Into the trash, from which the worker takes it later; `final`: bytes, record, thumbnail and row go now.

        Raises NotFound; an image that lies in the trash already can still be deleted finally.
        """
        if not final:
            now = now_ms()
            if not await self._database.write(lambda connection: store.set_deleted(connection, user_id, image_id, now)):
                raise NotFound(f"image {image_id}")
            return
        image = await self._database.write(lambda connection: store.take(connection, user_id, image_id))
        if image is None:
            raise NotFound(f"image {image_id}")
        await self._purge([image])

    async def restore(self, user_id: str, image_id: str) -> Image:
        """Out of the trash again. Raises NotFound once it is gone, or was never there."""
        if not await self._database.write(lambda connection: store.set_deleted(connection, user_id, image_id, None)):
            raise NotFound(f"image {image_id}")
        return await self.get(user_id, image_id)

    async def purge_due(self) -> int:
        """Remove for good what lay in the trash long enough, and what was only to be kept for a while."""
        purged = 0
        while True:
            now = now_ms()
            due = await self._database.write(
                lambda connection, now=now: store.take_due(  # type: ignore[misc]
                    connection, now, now - self._trash_ms, PURGE_BATCH
                )
            )
            await self._purge(due)
            purged += len(due)
            if len(due) < PURGE_BATCH:
                return purged

    async def _purge(self, images: list[Image]) -> None:
        """Objects first, the row last: what a crash leaves is found again by its row."""
        for image in images:
            await self._storage.delete(image.key)
            await self._storage.delete(thumbnail_key(image.folder_id, image.id))
            await self._storage.delete(record_key(stem_of(image.key)))
        if images:
            await self._database.write(lambda connection: store.remove_rows(connection, [image.id for image in images]))

    async def _find(self, image_id: str) -> Image | None:
        return await self._database.read(lambda connection: store.get_image(connection, image_id))
