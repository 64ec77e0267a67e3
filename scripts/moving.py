"""`python -m scripts.moving`: moves in what the old app left, and writes its lists back (docs/operations.md).

Ends with 0 when it got through, whatever oddities it reports; with 1 when a part was away: what was moved until then
stays, and the next run goes on from there; with 2 for wrong settings.
"""

import argparse
import os
import sys
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from scripts.parts import run_with_parts
from services.container import Container
from services.legacy.assembly import BUCKET, MoveOrder, open_export, open_importer
from services.legacy.report import Report

LOCAL_TIME = Path("/etc/localtime")


def main() -> int:
    asked = _arguments().parse_args()
    if asked.source is None and asked.export_legacy is None:
        _arguments().error("SOURCE, or --export-legacy, or both")
    start: Path = asked.started_in

    async def work(container: Container) -> None:
        if asked.source is not None:
            order = MoveOrder(_place(start, asked.source), asked.timezone, asked.shared_to)
            await _move(container, order, None if asked.report is None else start / asked.report, asked.dry_run)
        if asked.export_legacy is not None and not asked.dry_run:
            async with open_export(container, _place(start, asked.export_legacy), asked.timezone) as export:
                lists, entries = await export.run()
            print(f"{lists} lists with {entries} entries written for the old app", flush=True)

    return run_with_parts(work)


async def _move(container: Container, order: MoveOrder, file: Path | None, dry_run: bool) -> None:
    with container.spool.open_unnamed() as oddities:
        report = Report(oddities, _progress)
        _progress(f"times without a zone are taken as {order.zone}'s")
        async with open_importer(container, order) as importer:
            await importer.run(report, dry_run=dry_run)
        print("What would be moved:" if dry_run else "Done:", flush=True)
        for line in report.lines():
            print(line)
        if file is not None:
            with file.open("wb") as written:
                written.writelines(report.json_pieces())


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/migrate_data.py", description=__doc__)
    parser.add_argument("source", nargs="?", metavar="SOURCE", help=f"{BUCKET}BUCKET, or a folder, in the old layout")
    parser.add_argument("--dry-run", action="store_true", help="tell what would be moved, and change nothing")
    parser.add_argument(
        "--resume", action="store_true", help="go on where a run has stopped: every run does, so this changes nothing"
    )
    parser.add_argument(
        "--timezone", type=_zone, default=_machines_zone(), metavar="TZ",
        help="where the old app ran, such as Asia/Shanghai; default: this machine's",
    )  # fmt: skip
    parser.add_argument("--shared-to", metavar="LOGIN", help="GitHub login or number of who gets what is of no user")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report there as well, as JSON")
    parser.add_argument(
        "--export-legacy", metavar="TARGET", help="write history.json back: into a folder, or our own bucket"
    )
    parser.add_argument("--started-in", type=Path, default=Path(), help=argparse.SUPPRESS)
    return parser


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise argparse.ArgumentTypeError(f"no time zone: {name}") from None


def _machines_zone() -> tzinfo:
    """With its summer times, which an offset of today would not have."""
    try:
        if named := os.environ.get("TZ", "").removeprefix(":"):
            return ZoneInfo(named)
        with LOCAL_TIME.open("rb") as file:
            return ZoneInfo.from_file(file, key=str(LOCAL_TIME))
    except (ZoneInfoNotFoundError, OSError, ValueError):
        return datetime.now(UTC).astimezone().tzinfo or UTC


def _place(start: Path, given: str) -> str:
    return given if given.startswith(BUCKET) else str(start / Path(given).expanduser())


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
