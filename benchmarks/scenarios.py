"""What is measured, a function a table: each starts the servers in turn, round after round, and fills the table."""

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from benchmarks.gemini_standin import GeminiStandin
from benchmarks.load import LoadProcess, Plan, Result, load
from benchmarks.report import Table
from benchmarks.shares import can_give_shares, fixed_shares
from benchmarks.targets import API_ROLE, Floor, Ours, Target, TargetName

_IMAGE_BYTES = 1_760_000
_LARGE_IMAGE_BYTES = 15_000_000
_MANY = 50
_SHARE = 0.25
_MIB = 1 << 20


@dataclass(slots=True)
class Bench:
    """The run's options, its upstream, and what went wrong so far.

    `s3`: the endpoint of the bucket, or empty. `processes`: how many API processes each server has, where the scenario
    leaves it open.

    Below `folder` the servers write; nothing there is removed before the run is over. With ext4 each new file of the
    minutes after a removal looks past all inodes that went, which costs its maker up to a quarter of an image's CPU.
    """

    folder: Path
    standin: GeminiStandin
    targets: tuple[TargetName, ...]
    rounds: int
    quick: bool
    decoder: str
    distinct_prompts: bool
    our_environment: dict[str, str]
    s3: str
    processes: int = 1
    errors: list[str] = field(default_factory=list)
    our_token: str | None = None

    def in_turn(self, table: Table, measure: Callable[[Target], None], workers: Sequence[int] = ()) -> None:
        """Calls `measure` with every server, A B A B …, each freshly started and warmed up by a few generations."""
        area = table.title.partition(":")[0]
        for number, count, name in product(range(1, self.rounds + 1), workers or (self.processes,), self.targets):
            print(f"{area}: {name}, round {number} of {self.rounds}", file=sys.stderr)
            with self._target(name, count) as target:
                self.run(self.generations(target, 2, 6))
                measure(target)

    def _target(self, name: TargetName, workers: int) -> Target:
        if name == "ours":
            return Ours(self.folder, self.standin.url, workers, self.s3, self.our_environment)
        return Floor(self.folder, self.standin.url, workers, self.decoder, self.s3)

    def generations(self, target: Target, concurrency: int, requests: int, resolution: str = "1K") -> Plan:
        prompt = "a red cube on a wooden table" + (", number {n}" if self.distinct_prompts else "")
        body = {"prompt": prompt, "aspect_ratio": "1:1", "resolution": resolution}
        target.sign_in()
        return Plan(target.url + target.generate_path, "POST", target.token, body, concurrency, requests)

    def run(self, plan: Plan) -> Result:
        return self.checked(plan, load(plan))

    def checked(self, plan: Plan, result: Result) -> Result:
        if result.errors:
            self.errors.append(f"{plan.method} {plan.url} x{plan.concurrency}: {result.errors}")
        if not result.latencies:
            raise RuntimeError(f"no request succeeded: {self.errors[-1]}")
        return result

    @property
    def servers(self) -> str:
        return "one process each" if self.processes == 1 else f"{self.processes} processes each"

    def count(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def generate(bench: Bench) -> list[Table]:
    """Upstream at 0 ms: throughput, latency, CPU and memory at 1, 10 and 50 at once; what our steps cost."""
    bench.standin.configure(image_bytes=_IMAGE_BYTES)
    place = "a bucket" if bench.s3 else "local files"
    table = Table(f"generate: upstream at 0 ms, 1.76 MB image, {place}, {bench.servers}")
    steps = Table("steps: mean wall time of each step of ours, 1 at once")
    requests = {1: bench.count(60, 20), 10: bench.count(150, 50), _MANY: bench.count(250, 100)}

    def measure(target: Target) -> None:
        for concurrency, number in requests.items():
            before = target.step_seconds()
            _generate_at(bench, table, target, concurrency, number)
            if concurrency == 1:
                _add_steps(steps, target, before)

    bench.in_turn(table, measure)
    return [table, steps] if steps.rows else [table]


def _generate_at(bench: Bench, table: Table, target: Target, concurrency: int, number: int) -> None:
    plan = bench.generations(target, concurrency, number)
    target.processes.reset_peaks()
    usage = target.processes.usage()
    result = bench.run(plan)
    used = target.processes.usage().since(usage)
    at_once, name = f"{concurrency} at once", target.name
    table.add(f"throughput, {at_once}", "images/s", name, result.per_second, is_bar=True)
    for percent in (50, 95, 99):
        table.add(f"p{percent}, {at_once}", "ms", name, result.percentile(percent) * 1000)
    api_cpu = used.pop(API_ROLE)
    table.add(f"CPU an image, {at_once}", "ms", name, api_cpu * 1000 / number, is_bar=True)
    for role, seconds in used.items():
        table.add(f"CPU an image, {at_once}, {role} beside it", "ms", name, seconds * 1000 / number)
    if concurrency == _MANY:
        peak = target.processes.peaks()[API_ROLE] / target.workers
        table.add(f"peak memory a process, {at_once}", "MiB", name, peak / _MIB, is_bar=True)


def _add_steps(table: Table, target: Target, before: dict[str, tuple[float, float]]) -> None:
    for step, (seconds, runs) in target.step_seconds().items():
        seconds_before, runs_before = before.get(step, (0.0, 0.0))
        if runs > runs_before:
            mean = (seconds - seconds_before) / (runs - runs_before)
            table.add(step, "ms", target.name, mean * 1000)


def latency(bench: Bench) -> list[Table]:
    """Upstream at 2 s, 50 at once: the tail, and whether the health route stays quick meanwhile."""
    table = Table("latency: upstream at 2 s, 50 at once, health asked every 20 ms meanwhile")
    delay, waves = 2.0, bench.count(4, 2)
    bench.standin.configure(image_bytes=_IMAGE_BYTES)

    def measure(target: Target) -> None:
        plan = bench.generations(target, _MANY, _MANY * waves)
        probe = Plan(target.url + target.health_path, interval_seconds=0.02, seconds=delay * waves)
        bench.standin.configure(image_bytes=_IMAGE_BYTES, delay_seconds=delay)
        probing = LoadProcess(probe)
        result = bench.run(plan)
        health = bench.checked(probe, probing.result())
        bench.standin.configure(image_bytes=_IMAGE_BYTES)
        for percent in (50, 95, 99):
            value = result.percentile(percent) * 1000
            table.add(f"p{percent}", "ms", target.name, value, is_bar=percent == 99)
        table.add("health p50 meanwhile", "ms", target.name, health.percentile(50) * 1000)
        table.add("health p99 meanwhile", "ms", target.name, health.percentile(99) * 1000, is_bar=True)

    bench.in_turn(table, measure)
    return [table]


def memory(bench: Bench) -> list[Table]:
    """20 images of 15 MB at once."""
    table = Table(f"memory: 20 images of 15 MB (4K) at once, {bench.servers}")
    bench.standin.configure(image_bytes=_IMAGE_BYTES)

    def measure(target: Target) -> None:
        bench.standin.configure(image_bytes=_LARGE_IMAGE_BYTES)
        target.processes.reset_peaks()
        before = target.processes.peaks()[API_ROLE] / target.workers
        table.add("memory a process before", "MiB", target.name, before / _MIB)
        bench.run(bench.generations(target, 20, 20, "4K"))
        peak = target.processes.peaks()[API_ROLE] / target.workers
        table.add("peak memory a process", "MiB", target.name, peak / _MIB, is_bar=True)
        bench.standin.configure(image_bytes=_IMAGE_BYTES)

    bench.in_turn(table, measure)
    return [table]


def processes(bench: Bench) -> list[Table]:
    """What a second process brings, ours and the floor's."""
    bench.standin.configure(image_bytes=_IMAGE_BYTES)
    shares = f"each with {_SHARE} of a core" if can_give_shares() else "the load takes its part of the cores"
    table = Table(f"processes: upstream at 0 ms, 1.76 MB image, 50 at once, {shares}")
    measured: dict[tuple[TargetName, int], list[float]] = {}

    def measure(target: Target) -> None:
        pids = [pid for pid, role in target.processes.roles().items() if role == API_ROLE]
        with fixed_shares(pids, _SHARE) if can_give_shares() else nullcontext():
            result = bench.run(bench.generations(target, _MANY, bench.count(250, 100)))
        table.add(f"throughput, processes: {target.workers}", "images/s", target.name, result.per_second)
        measured.setdefault((target.name, target.workers), []).append(result.per_second)

    bench.in_turn(table, measure, workers=(1, 2))
    for name in bench.targets:
        for one, two in zip(measured[name, 1], measured[name, 2], strict=True):
            table.add("throughput, 2 against 1", "x", name, two / one, is_bar=True)
    return [table]


def reads(bench: Bench) -> list[Table]:
    """Signed-in reads of ours against a route that only checks the token."""
    bench.standin.configure(image_bytes=_IMAGE_BYTES)
    table = Table(f"reads: 10 at once, {bench.servers}; the floor only checks the same JWT")
    seconds = float(bench.count(4, 2))

    def measure(target: Target) -> None:
        bench.run(bench.generations(target, 4, 30))
        paths = {"GET /api/quota": "/api/quota", "GET /api/history, a page of 20": "/api/history?limit=20"}
        if isinstance(target, Floor):
            target.sign_like(bench.our_token)
            paths = dict.fromkeys(paths, "/floor/jwt")
        else:
            bench.our_token = target.token
        for label, path in paths.items():
            plan = Plan(target.url + path, token=target.token, concurrency=10, seconds=seconds)
            result = bench.run(plan)
            table.add(label, "requests/s", target.name, result.per_second, is_bar=True)
            table.add(f"{label}, p99", "ms", target.name, result.percentile(99) * 1000)

    bench.in_turn(table, measure)
    return [table]


SCENARIOS = {
    "generate": generate,
    "latency": latency,
    "memory": memory,
    "processes": processes,
    "reads": reads,
}
