"""Runs ours and the floor in turn and prints what each needs: `python -m benchmarks.run [--quick] [--only …]`."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import orjson

from benchmarks.floor import DECODERS
from benchmarks.gemini_standin import GeminiStandin
from benchmarks.measure import describe_machine
from benchmarks.report import Table, as_json, summary
from benchmarks.s3_sink import S3Sink
from benchmarks.scenarios import SCENARIOS as IMAGE_SCENARIOS
from benchmarks.scenarios import Bench
from benchmarks.targets import TargetName
from benchmarks.task_scenarios import SCENARIOS as TASK_SCENARIOS
from migrations.upgrade import upgrade
from tests.support.postgresql import running_postgres

SCENARIOS = IMAGE_SCENARIOS | TASK_SCENARIOS
_ROUNDS = 5


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of fewer requests: to see that it runs")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--targets", default="ours,floor", help="comma-separated (default: %(default)s)")
    parser.add_argument("--rounds", type=int, help=f"rounds of each (default: {_ROUNDS}, with --quick 1)")
    parser.add_argument("--decoder", choices=sorted(DECODERS), default="base64", help="what the floor decodes with")
    parser.add_argument("--s3", action="store_true", help="images go into a bucket; the floor puts its own there too")
    parser.add_argument("--postgresql", action="store_true", help="ours over a PostgreSQL server of this run's own")
    parser.add_argument("--processes", type=int, default=1, help="API processes of each server (default: 1)")
    parser.add_argument(
        "--distinct-prompts",
        action="store_true",
        help="a new prompt for each request; else moderation answers from its cache after the first",
    )
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a setting of ours")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every round's values here")
    arguments = parser.parse_args()
    for given, known in ((arguments.only, SCENARIOS), (arguments.targets, ("ours", "floor"))):
        if unknown := set(given.split(",")) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return arguments


def main() -> int:
    arguments = _arguments()
    tables: list[Table] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="benchmark-")))
        standin = stack.enter_context(GeminiStandin())
        s3 = stack.enter_context(S3Sink()).url if arguments.s3 else ""
        environment = dict(setting.split("=", 1) for setting in arguments.env)
        if arguments.postgresql:
            environment["DATABASE_URL"] = stack.enter_context(running_postgres()).url("postgres")
            upgrade(environment["DATABASE_URL"])
        bench = Bench(
            folder=folder,
            standin=standin,
            targets=cast(tuple[TargetName, ...], tuple(arguments.targets.split(","))),
            rounds=arguments.rounds or (1 if arguments.quick else _ROUNDS),
            quick=arguments.quick,
            decoder=arguments.decoder,
            distinct_prompts=arguments.distinct_prompts,
            our_environment=environment,
            s3=s3,
            processes=arguments.processes,
        )
        print(describe_machine())
        print(f"rounds: {bench.rounds}, floor decodes with {bench.decoder}")
        for name in arguments.only.split(","):
            for table in SCENARIOS[name](bench):
                tables.append(table)
                print("", *table.lines(), sep="\n", flush=True)
    print("", *summary(tables), sep="\n")
    if arguments.json is not None:
        arguments.json.write_bytes(orjson.dumps(as_json(tables), option=orjson.OPT_INDENT_2))
    for error in bench.errors:
        print(f"errors: {error}", file=sys.stderr)
    return 1 if bench.errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
