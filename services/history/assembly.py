"""The parts of this domain, put together for the composition root."""

from dataclasses import dataclass

from core.clients.lease import Lease
from core.security import LinkSigner
from services.ground import Ground
from services.history.clearing import Clearings
from services.history.export import HistoryExport
from services.history.indexing import SearchIndexer
from services.history.links import LinkService
from services.history.removal import Remover
from services.history.retention import LOCK, Retention
from services.history.service import HistoryService
from services.history.thumbnails import ThumbnailService


@dataclass(frozen=True)
class History:
    service: HistoryService
    export: HistoryExport
    retention: Retention
    search_index: SearchIndexer
    thumbnails: ThumbnailService
    links: LinkService


def assemble_history(ground: Ground) -> History:
    database, storage, fail_points, settings = (
        ground.database,
        ground.storage,
        ground.fail_points,
        ground.settings.storage,
    )
    remover = Remover(database, storage, fail_points)
    clearings = Clearings(database, remover, fail_points)
    return History(
        service=HistoryService(database, storage, remover, clearings, fail_points),
        export=HistoryExport(storage, ground.spool, ground.files),
        retention=Retention(
            database, remover, clearings, Lease(ground.redis, LOCK()), settings, ground.metrics, fail_points
        ),
        search_index=SearchIndexer(database),
        thumbnails=ThumbnailService(storage, ground.pixels, settings.max_image_pixels),
        links=LinkService(
            LinkSigner(ground.keys, "signed-link"), settings.image_url_ttl_seconds, settings.public_bucket_url
        ),
    )
