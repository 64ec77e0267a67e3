"""Moving in: all that the app that came before has left in a bucket or a folder.

It may run beside the service and the old app, and again at any time: what is here stays as it is, so that each run goes
on where the one before has stopped.
"""

from services.legacy.documents import DocumentMover
from services.legacy.favorites import FavoriteMover
from services.legacy.histories import HistoryMover
from services.legacy.images import Source
from services.legacy.pool import carry_over
from services.legacy.report import Report
from services.quota.service import QuotaService
from services.reindex.models import Run
from services.reindex.service import Reindexer


class Importer:
    def __init__(
        self,
        source: Source,
        histories: HistoryMover,
        documents: DocumentMover,
        favorites: FavoriteMover,
        quota: QuotaService,
        reindexer: Reindexer,
    ) -> None:
        self._source = source
        self._histories = histories
        self._documents = documents
        self._favorites = favorites
        self._quota = quota
        self._reindexer = reindexer

    async def run(self, report: Report, *, dry_run: bool) -> None:
        """Move in what is not here; `dry_run`: only find out what that is.

        Raises StorageUnavailable, DependencyUnavailable or RedisError when a part is away. What was moved until then
        stays.
        """
        # First, since from now on the points are to be missing here.
        await carry_over(self._source, self._quota, report, dry_run=dry_run)
        await self._documents.move(report, dry_run=dry_run)
        await self._favorites.move(report, dry_run=dry_run)
        await self._histories.move(Run(report, await self._reindexer.settled(), dry_run))
