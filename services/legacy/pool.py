"""Today's pool: what the old app had given away of it is not there to be given again."""

from core.clock import now_ms, utc_day
from services.legacy.entries import read_json
from services.legacy.images import Source
from services.legacy.report import Report
from services.quota.service import QuotaService
from services.storage.errors import ObjectNotFound

MOST_POINTS = 1_000_000


async def carry_over(source: Source, quota: QuotaService, report: Report, *, dry_run: bool) -> None:
    """Once a day, as one entry of the ledger. What was used of a mode was everybody's together, and is left."""
    day = utc_day(now_ms())
    key = f"quota/trial_quota_{day}.json"
    try:
        document = read_json(await source.storage.get(key), key, report)
    except ObjectNotFound:
        return
    points = document.get("global_used") if isinstance(document, dict) else None
    if not isinstance(points, int) or isinstance(points, bool) or not 0 <= points <= MOST_POINTS:
        if document is not None:
            report.found_odd("broken_entry", key, "global_used")
        return
    report.pool_points = points
    if points and not dry_run:
        report.pool_carried = await quota.carry_over(day, points, f"moved_in_{day}")
        await quota.recount(day)
