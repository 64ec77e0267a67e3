"""The instance lock between real processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.instance_lock import InstanceLocked, acquire_instance_lock, is_running

ROOT = Path(__file__).parents[2]

# Takes the lock, hands it to a child that sleeps, says both pids, then waits.
HOLDER = """
import subprocess, sys, time
from pathlib import Path
from core.instance_lock import acquire_instance_lock
folder = Path(sys.argv[1])
lock = acquire_instance_lock(folder / "lock", folder)
child = subprocess.Popen(["sleep", sys.argv[2]], pass_fds=[lock.fd], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(600)
"""

# Takes the lock again and again, and fails when another one is inside at the same time.
TAKING_TURNS = """
import os, sys
from pathlib import Path
from core.instance_lock import InstanceLocked, acquire_instance_lock
folder = Path(sys.argv[1])
turns = 0
while turns < 300:
    try:
        lock = acquire_instance_lock(folder / "lock", folder)
    except InstanceLocked:
        continue
    os.mkdir(folder / "inside")
    os.rmdir(folder / "inside")
    lock.release()
    turns += 1
"""

StartHolder = Callable[[float], tuple[subprocess.Popen[str], int]]


@pytest.fixture
def start_holder(tmp_path: Path) -> Iterator[StartHolder]:
    """A leader that holds the lock, and the pid of its child, which lives as many seconds as asked for."""
    holders: list[subprocess.Popen[str]] = []
    children: list[int] = []
    environment = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "COVERAGE"))}

    def start(child_seconds: float) -> tuple[subprocess.Popen[str], int]:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path), str(child_seconds)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        holders.append(holder)
        assert holder.stdout is not None
        children.append(int(holder.stdout.readline()))
        return holder, children[-1]

    yield start
    for holder in holders:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()
    for child in children:
        if is_running(child):
            os.kill(child, 9)


def test_a_released_lock_leaves_nothing_and_can_be_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = acquire_instance_lock(path, tmp_path)
    assert path.read_text(encoding="ascii") == f"{os.getpid()}\n"

    lock.release()

    assert not path.exists()
    acquire_instance_lock(path, tmp_path, wait=0).release()


def test_a_second_instance_is_told_the_folder_and_the_pid_at_once(tmp_path: Path, start_holder: StartHolder) -> None:
    holder, _ = start_holder(600)
    begun = time.monotonic()

    with pytest.raises(InstanceLocked) as refused:
        acquire_instance_lock(tmp_path / "lock", tmp_path, wait=60)

    line = f"{tmp_path} is in use by another instance (pid {holder.pid}); stop that one first"
    assert str(refused.value) == line
    assert refused.value.holder == holder.pid
    assert time.monotonic() - begun < 30


def test_the_lock_lasts_as_long_as_a_child_of_a_killed_leader(tmp_path: Path, start_holder: StartHolder) -> None:
    holder, child = start_holder(600)
    holder.kill()
    holder.wait()

    with pytest.raises(InstanceLocked) as refused:
        acquire_instance_lock(tmp_path / "lock", tmp_path, wait=0.2)

    assert "still in use by processes of an instance that ended" in str(refused.value)
    os.kill(child, 9)
    acquire_instance_lock(tmp_path / "lock", tmp_path, wait=30).release()


def test_a_new_leader_waits_for_the_children_of_a_killed_one(tmp_path: Path, start_holder: StartHolder) -> None:
    holder, child = start_holder(1)
    holder.kill()
    # Left uncollected: a dead leader must not count as alive for that.
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    lock = acquire_instance_lock(tmp_path / "lock", tmp_path, wait=60)

    assert not is_running(child)
    lock.release()


def test_a_file_left_by_a_crash_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(f"{os.getppid()}\n", encoding="ascii")

    acquire_instance_lock(path, tmp_path, wait=0).release()


def test_only_one_of_many_holds_it_however_quickly_they_take_turns(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "COVERAGE"))}
    command = [sys.executable, "-c", TAKING_TURNS, str(tmp_path)]
    contenders = [subprocess.Popen(command, cwd=ROOT, env=environment) for _ in range(4)]

    assert [contender.wait(60) for contender in contenders] == [0, 0, 0, 0]
