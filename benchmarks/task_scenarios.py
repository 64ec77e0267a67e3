"""What is measured of tasks, as in `scenarios`: how fast they are accepted, and what their machinery costs."""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.load import Plan
from benchmarks.noop import arq_per_second, ours_per_second
from benchmarks.report import Table
from benchmarks.scenarios import Bench
from benchmarks.targets import ROOT, Floor, Target, kept_environment
from core.clients.embedded_redis import running_redis
from core.clients.sqlite import sqlite_url
from core.settings import embedded_database
from migrations.upgrade import upgrade

_ACCEPTED_PER_SECOND = 50
_CONNECTIONS = 100
_STOP_SECONDS = 30


def accepting(bench: Bench) -> list[Table]:
    """Tasks at a steady rate, each caller on a connection of their own, while the worker makes their images."""
    title = f"accepting: {_ACCEPTED_PER_SECOND} tasks/s over {_CONNECTIONS} connections, {bench.servers}"
    table = Table(f"{title}; the floor only writes a row")
    bench.standin.configure(pixels=(64, 64))

    def measure(target: Target) -> None:
        tokens = list[str]()
        for _ in range(_CONNECTIONS):
            target.sign_in()
            tokens.append(target.token)
        path = "/floor/row" if isinstance(target, Floor) else "/api/v1/tasks/generate"
        body = {"params": {"prompt": "a red cube on a wooden table", "aspect_ratio": "1:1"}}
        for seconds in (4.0, float(bench.count(20, 4))):  # what is done for the first time, and then what counts
            plan = Plan(
                target.url + path, "POST", body=body, tokens=tokens, per_second=_ACCEPTED_PER_SECOND, seconds=seconds
            )
            result = bench.run(plan)
        for percent in (50, 95, 99):
            value = result.percentile(percent) * 1000
            table.add(f"p{percent}", "ms", target.name, value, is_bar=percent == 99)

    bench.in_turn(table, measure)
    return [table]


def noop(bench: Bench) -> list[Table]:
    """Tasks that do nothing, from the first that is submitted to the last that is closed; the floor is bare arq."""
    table = Table("noop: tasks that do nothing, one worker; the floor is bare arq")
    count = bench.count(3000, 300)
    for number in range(1, bench.rounds + 1):
        print(f"noop: round {number} of {bench.rounds}", file=sys.stderr)
        for name in bench.targets:
            table.add("throughput", "tasks/s", name, _noop_per_second(bench, name == "ours", count), is_bar=True)
    return [table]


def _noop_per_second(bench: Bench, is_ours: bool, count: int) -> float:
    folder = Path(tempfile.mkdtemp(prefix="noop-", dir=bench.folder))
    with running_redis(folder) as redis:
        environment = {"DATA_DIR": str(folder), "REDIS_URL": redis.url, "LOG_LEVEL": "WARNING"} | bench.our_environment
        if "DATABASE_URL" not in environment:
            upgrade(sqlite_url(embedded_database(folder)))
        worker = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.noop", "ours" if is_ours else "arq"],
            cwd=ROOT, env=kept_environment() | environment, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            return asyncio.run(ours_per_second(environment, count) if is_ours else arq_per_second(redis.url, count))
        finally:
            worker.terminate()
            worker.wait(_STOP_SECONDS)


SCENARIOS = {"accepting": accepting, "noop": noop}
