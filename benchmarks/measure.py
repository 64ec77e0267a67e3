"""What processes use, read from /proc: CPU seconds and peak memory, by the role that a process plays. Linux only."""

import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROLES = ("nbl-api", "nbl-worker", "nbl-redis")
_RESET_PEAK = "5"  # what proc(5) says to write to clear_refs to set VmHWM back to the present size
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds (user + sys) since the processes started, by role."""

    cpu_seconds: dict[str, float]

    def since(self, earlier: "Usage") -> dict[str, float]:
        return {role: used - earlier.cpu_seconds.get(role, 0.0) for role, used in self.cpu_seconds.items()}


class ProcessTree:
    """The descendants of a leader, sorted into roles by the name they show to `ps`.

    A process without a name of ROLES has its parent's role; those above every named one are "leader". With
    `only_role`, all of them, the leader too, have that role: the floor is nothing but an API.
    """

    def __init__(self, leader_pid: int, only_role: str | None = None) -> None:
        self._leader = psutil.Process(leader_pid)
        self._only_role = only_role

    def roles(self) -> dict[int, str]:
        """Role by pid."""
        found = {self._leader.pid: self._only_role or "leader"}
        waiting = [self._leader]
        while waiting:
            parent = waiting.pop()
            for child in parent.children():
                found[child.pid] = self._only_role or _named_role(child) or found[parent.pid]
                waiting.append(child)
        return found

    def usage(self) -> Usage:
        seconds: dict[str, float] = {}
        for pid, role in self.roles().items():
            with suppress(psutil.NoSuchProcess):
                times = psutil.Process(pid).cpu_times()
                seconds[role] = seconds.get(role, 0.0) + times.user + times.system
        return Usage(seconds)

    def reset_peaks(self) -> None:
        """From here on `peaks` counts anew."""
        for pid in self.roles():
            with suppress(ProcessLookupError, FileNotFoundError):
                Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)

    def peaks(self) -> dict[str, int]:
        """Bytes of peak resident memory by role: each process's own high-water mark, added up."""
        peaks: dict[str, int] = {}
        for pid, role in self.roles().items():
            peaks[role] = peaks.get(role, 0) + _peak(pid)
        return peaks


def _peak(pid: int) -> int:
    """Bytes; 0 for a process that has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return 0
    return sum(int(line.split()[1]) * _KIB for line in status.splitlines() if line.startswith("VmHWM"))


def _named_role(process: psutil.Process) -> str | None:
    shown = " ".join([process.name(), *process.cmdline()[:1]])
    return next((role for role in ROLES if role in shown), None)


def describe_machine() -> str:
    """CPU model, cores, memory, Python and kernel in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    memory = psutil.virtual_memory().total / (1 << 30)
    kernel = f"{platform.system()} {platform.release()}"
    return f"{model}, {psutil.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, {kernel}"
