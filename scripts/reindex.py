"""`python -m scripts.reindex`: index and charge ledger from storage alone, while the service runs or not.

Ends with 0 when it got through, whatever it found; with 1 when a part was away: what was entered until then stays, and
the next run goes on from there; with 2 for wrong settings.
"""

import argparse
import sys

from scripts.parts import run_with_parts
from services.container import Container
from services.reindex.models import Report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.reindex", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="tell what is missing, and change nothing")
    dry_run: bool = parser.parse_args().dry_run
    report = Report(tell=say)

    async def reindex(container: Container) -> None:
        await container.reindexer.run(report, dry_run=dry_run)

    code = run_with_parts(reindex)
    if code == 0:
        say("What is missing:" if dry_run else "Done:")
        for line in report.lines():
            say(line)
    return code


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
