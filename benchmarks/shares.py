"""Gives each of some processes the same fixed share of a core, however many of them there are.

With two cores, the load and the upstream take their part of both, and a second process finds no core to itself. With
shares that leave room for all, its throughput tells how well two processes share Redis, the database and the disk, and
nothing else. Needs the `cpu` controller of cgroups (v1) and root; where they are missing, no share is given.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup/cpu")
_PERIOD_MICROSECONDS = 20_000


def can_give_shares() -> bool:
    return (_ROOT / "cpu.cfs_quota_us").exists() and os.access(_ROOT, os.W_OK)


@contextlib.contextmanager
def fixed_shares(pids: Sequence[int], share: float) -> Iterator[None]:
    """Each process gets `share` of a core, until the end or its own."""
    groups = [_ROOT / f"benchmark-{os.getpid()}-{pid}" for pid in pids]
    try:
        for pid, group in zip(pids, groups, strict=True):
            group.mkdir()
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_MICROSECONDS))
            (group / "cpu.cfs_quota_us").write_text(str(int(_PERIOD_MICROSECONDS * share)))
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for pid, group in zip(pids, groups, strict=True):
            with contextlib.suppress(ProcessLookupError):
                (_ROOT / "cgroup.procs").write_text(str(pid))
            with contextlib.suppress(FileNotFoundError):
                group.rmdir()
