"""The supervisor over real processes: a small leader program, and children that write down what happens to them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.supervisor import describe_exit

ROOT = Path(__file__).parents[2]

LEADER = """
import asyncio, json, sys
from pathlib import Path
from core.supervisor import ChildSpec, Supervisor

def spec(fields):
    marker = fields.pop("ready_file", None)
    async def ready():
        return Path(marker).exists()
    argv = tuple(fields.pop("argv"))
    return ChildSpec(argv=argv, env={}, ready=ready if marker else None, **fields)

def say(line):
    print(line, flush=True)

async def main():
    specs = [spec(fields) for fields in json.loads(sys.argv[1])]
    return await Supervisor(
        specs, say, on_ready=lambda: say("READY"), on_stopping=lambda: say("STOPPING")
    ).run()

sys.exit(asyncio.run(main()))
"""

# Writes "<what> <name> <pid>" lines; its second argument may ask for something special.
CHILD = """
import os, signal, subprocess, sys, time
name, diary, how = sys.argv[1:4]
def write(what, pid=os.getpid()):
    with open(diary, "a") as file:
        file.write(f"{what} {name} {pid}\\n")
def stop(number, frame):
    write("stop")
    if how != "stubborn":
        sys.exit(0)
signal.signal(signal.SIGTERM, stop)
if how == "slow":
    time.sleep(0.5)
write("start")
if how == "parent":
    write("grandchild", subprocess.Popen(["sleep", "600"]).pid)
if how == "failing":
    sys.exit(7)
while True:
    time.sleep(60)
"""


def eventually(holds: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Tree:
    """A leader under test, its output and its children's diary."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._output = folder / "output"
        self._diary = folder / "diary"
        self._diary.touch()
        self.leader: subprocess.Popen[bytes] | None = None

    def child(self, name: str, how: str = "plain", **fields: Any) -> dict[str, Any]:
        return {"name": name, "argv": [sys.executable, "-c", CHILD, name, str(self._diary), how], **fields}

    def start(self, *children: dict[str, Any]) -> subprocess.Popen[bytes]:
        environment = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "COVERAGE"))}
        with self._output.open("wb") as output:
            self.leader = subprocess.Popen(
                [sys.executable, "-c", LEADER, json.dumps(children)],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=output,
            )
        return self.leader

    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def diary(self) -> list[str]:
        """`start redis`, `stop redis`, … in the order in which it happened."""
        return [line.rpartition(" ")[0] for line in self._diary.read_text(encoding="utf-8").splitlines()]

    def pids(self, entry: str) -> list[int]:
        lines = self._diary.read_text(encoding="utf-8").splitlines()
        return [int(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{entry} ")]

    def clear_away(self) -> None:
        """End what does not end by itself: children that heed no signal but this one."""
        for what in ("start", "grandchild"):
            for pid in self.pids(what):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def started(self, *names: str) -> bool:
        return eventually(lambda: all(self.pids(f"start {name}") for name in names))


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path)
    yield tree
    if tree.leader is not None and tree.leader.poll() is None:
        tree.leader.kill()
        tree.leader.wait()
    tree.clear_away()


def test_children_start_in_order_and_stop_in_reverse(tree: Tree, tmp_path: Path) -> None:
    ready_file = tmp_path / "diary-ready"
    slow = tree.child("first", "slow", stage=0, ready_file=str(ready_file))
    leader = tree.start(slow, tree.child("second", stage=1), tree.child("third", stage=2))

    assert tree.started("first")
    assert not eventually(lambda: "start second" in tree.diary(), seconds=0.3)
    ready_file.touch()
    assert tree.started("second", "third")
    leader.send_signal(signal.SIGTERM)

    assert leader.wait(15) == 0
    # The second stage has no readiness check, so the third does not wait for it to come up.
    assert tree.diary()[0] == "start first"
    assert tree.diary()[3:] == ["stop third", "stop second", "stop first"]
    assert tree.output().split() == ["READY", "STOPPING"]


def test_in_a_stage_a_child_that_nobody_waits_for_starts_last_and_stops_with_the_others(
    tree: Tree, tmp_path: Path
) -> None:
    ready_file = tmp_path / "ready"
    leader = tree.start(
        tree.child("unawaited", "stubborn", stop_grace=600), tree.child("awaited", ready_file=str(ready_file))
    )
    assert tree.started("awaited")
    assert not eventually(lambda: "start unawaited" in tree.diary(), seconds=0.3)
    ready_file.touch()
    assert tree.started("unawaited")

    leader.send_signal(signal.SIGTERM)

    assert eventually(lambda: sorted(tree.diary()[2:]) == ["stop awaited", "stop unawaited"])
    assert leader.poll() is None


def test_children_are_in_sessions_of_their_own_so_that_ctrl_c_reaches_only_the_leader(tree: Tree) -> None:
    leader = tree.start(tree.child("one"))
    assert tree.started("one")
    (pid,) = tree.pids("start one")

    assert os.getsid(pid) == pid
    leader.send_signal(signal.SIGINT)

    assert leader.wait(15) == 0
    assert tree.diary() == ["start one", "stop one"]


def test_a_child_that_dies_is_started_again_and_its_death_is_one_line(tree: Tree) -> None:
    tree.start(tree.child("one"), tree.child("other"))
    assert tree.started("one", "other")
    (pid,) = tree.pids("start one")

    os.kill(pid, signal.SIGKILL)

    assert eventually(lambda: len(tree.pids("start one")) == 2)
    assert f"one (pid {pid}) died: SIGKILL; starting it again" in tree.output().splitlines()
    assert len(tree.pids("start other")) == 1


def test_what_a_dead_child_left_running_goes_with_it(tree: Tree) -> None:
    tree.start(tree.child("one", "parent"))
    assert eventually(lambda: bool(tree.pids("grandchild one")))
    (grandchild,) = tree.pids("grandchild one")

    os.kill(tree.pids("start one")[0], signal.SIGKILL)

    assert eventually(lambda: not alive(grandchild))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help against orphans is Linux's")
def test_a_leader_killed_with_minus_9_leaves_no_orphan(tree: Tree) -> None:
    leader = tree.start(tree.child("one"), tree.child("two", stage=1))
    assert tree.started("one", "two")

    leader.kill()
    leader.wait()

    children = tree.pids("start one") + tree.pids("start two")
    assert eventually(lambda: not any(alive(pid) for pid in children))
    # They were asked to stop, not cut off.
    assert sorted(tree.diary()[2:]) == ["stop one", "stop two"]


def test_a_child_that_ignores_the_signal_is_killed_after_its_grace(tree: Tree) -> None:
    leader = tree.start(tree.child("one", "stubborn", stop_grace=0.3))
    assert tree.started("one")

    leader.send_signal(signal.SIGTERM)

    assert leader.wait(15) == 0
    assert "one did not stop within 0.3 s and is killed" in tree.output()
    assert not alive(tree.pids("start one")[0])


def test_a_second_signal_kills_at_once(tree: Tree) -> None:
    leader = tree.start(tree.child("quick"), tree.child("one", "stubborn", stop_grace=600))
    assert tree.started("quick", "one")

    leader.send_signal(signal.SIGTERM)
    assert eventually(lambda: "stop one" in tree.diary())
    assert leader.poll() is None
    leader.send_signal(signal.SIGINT)

    assert leader.wait(15) == 1
    assert not alive(tree.pids("start one")[0])


def test_a_child_that_never_starts_stops_everything_with_a_line(tree: Tree) -> None:
    good = tree.child("good", stage=0)
    leader = tree.start(good, tree.child("bad", "failing", stage=1, hint="see its log"))

    assert leader.wait(15) == 1
    assert len(tree.pids("start bad")) == 3
    last = tree.pids("start bad")[-1]
    line = f"bad (pid {last}) died: exit code 7; it could not start in 3 attempts; see its log"
    assert line in tree.output().splitlines()
    assert not any(alive(pid) for pid in tree.pids("start good"))


def test_a_program_that_is_not_there_is_named(tree: Tree) -> None:
    leader = tree.start({"name": "ghost", "argv": ["/nonexistent/program"]})

    assert leader.wait(15) == 1
    assert "ghost cannot be run: [Errno 2] No such file or directory: '/nonexistent/program'" in tree.output()
    assert "Traceback" not in tree.output()


def test_a_child_that_is_never_ready_stops_everything(tree: Tree, tmp_path: Path) -> None:
    leader = tree.start(tree.child("one", ready_file=str(tmp_path / "never"), ready_timeout=0.5))

    assert leader.wait(15) == 1
    assert "one did not get ready within 0.5 s" in tree.output()
    assert not any(alive(pid) for pid in tree.pids("start one"))


def test_an_exit_is_described_by_its_code_or_its_signal() -> None:
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-signal.SIGSEGV) == "SIGSEGV"
    assert describe_exit(-200) == "signal 200"
