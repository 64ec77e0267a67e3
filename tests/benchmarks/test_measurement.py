"""The measuring parts on a real server: the floor, driven by the real load generator."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.gemini_standin import GeminiStandin
from benchmarks.load import Plan, Result, load
from benchmarks.measure import ProcessTree
from benchmarks.report import Table
from benchmarks.targets import API_ROLE, Floor

BODY = {"prompt": "a red cube", "aspect_ratio": "1:1"}


@pytest.fixture(scope="module")
def floor(process: GeminiStandin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    with Floor(tmp_path_factory.mktemp("floor"), process.url, workers=1, decoder="base64", s3="") as running:
        yield running


def test_load_reaches_the_upstream_through_the_floor(standin: GeminiStandin, floor: Floor) -> None:
    result = load(Plan(floor.url + floor.generate_path, "POST", body=BODY, concurrency=3, requests=7))
    assert len(result.latencies) == 7
    assert standin.stats()["answered"] == 7
    assert standin.stats()["peak_waiting"] <= 3


def test_load_counts_what_fails(standin: GeminiStandin, floor: Floor) -> None:
    standin.script({"mode": "error", "status": 503, "times": 2}, {})
    result = load(Plan(floor.url + floor.generate_path, "POST", body=BODY, requests=5))
    assert result.errors == {"502": 2}
    assert len(result.latencies) == 3


def test_cpu_of_the_server_is_seen(standin: GeminiStandin, floor: Floor) -> None:
    standin.configure(image_bytes=20_000_000)
    usage = floor.processes.usage()
    load(Plan(floor.url + floor.generate_path, "POST", body=BODY, requests=3))
    assert floor.processes.usage().since(usage)[API_ROLE] > 0


def test_peak_memory_is_seen_after_it_was_freed_and_can_be_set_back() -> None:
    script = "held = bytearray(200_000_000); del held; print(flush=True); input()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        tree = ProcessTree(process.pid)
        assert tree.peaks()["leader"] > 200_000_000
        tree.reset_peaks()
        assert tree.peaks()["leader"] < 100_000_000
        process.communicate(b"\n")


def test_roles_follow_the_names_that_processes_show() -> None:
    named = "import setproctitle; setproctitle.setproctitle('nbl-redis'); print(flush=True); input()"
    leader = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {named!r}])"
    command = [sys.executable, "-c", leader]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        roles = ProcessTree(process.pid).roles()
        assert roles.pop(process.pid) == "leader"
        assert list(roles.values()) == ["nbl-redis"]
        process.communicate(b"\n")


def test_floor_checks_the_token(floor: Floor) -> None:
    floor.sign_in()
    signature = floor.token.rpartition(".")[2]
    forged = floor.token.replace(signature, signature[::-1])
    answers = [load(Plan(f"{floor.url}/floor/jwt", token=token, requests=1)) for token in (floor.token, forged)]
    assert [len(answer.latencies) for answer in answers] == [1, 0]
    assert answers[1].errors == {"401": 1}


def test_percentiles_are_nearest_rank() -> None:
    result = Result(latencies=[value / 100 for value in range(100, 0, -1)])
    assert [result.percentile(percent) for percent in (50, 95, 99, 100)] == [0.5, 0.95, 0.99, 1.0]


def test_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    table = Table("t")
    for ours, floor_value in ((1, 10), (30, 100), (6, 10)):
        table.add("m", "ms", "ours", ours)
        table.add("m", "ms", "floor", floor_value)
    assert table.rows["m"].ratio == pytest.approx(0.3)
