"""Keeps a tree of processes running: starts in order, restarts what dies, stops in reverse, leaves nothing behind.

It knows no domain. POSIX; on Linux the kernel also stops the children of a supervisor that was killed with -9.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h

# A child that lives this long has started well: it is restarted at once when it dies later.
SETTLED_SECONDS = 5.0
# So many deaths before it was ever ready mean that trying again is no use.
START_ATTEMPTS = 3
REFUSAL_EXIT_CODE = 2
TEMPORARY_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h
# Pauses before a restart, for a child that keeps dying; below 1 s, the longest that a child may be away.
RESTART_DELAYS = (0.0, 0.1, 0.2, 0.4, 0.8)
PROBE_INTERVAL_SECONDS = 0.02


@dataclass(frozen=True)
class ChildSpec:
    """One process to keep running.

    A `stage` starts once the one below is ready, and stops together once those above are gone. In it the children
    with a `ready` check start first; the others, for which nobody waits, follow when those are ready and leave them
    the processor until then. `ready` is asked again and again until it says yes, for at most `ready_timeout` seconds.
    `executable` is run under the name `argv[0]` when it differs. `stop_grace` is the time in seconds between
    `stop_signal` and SIGKILL. `on_death` gets the pid of each process that is gone. `hint` ends the line that says
    why a child could not start.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    stage: int = 0
    executable: Path | None = None
    ready: Callable[[], Awaitable[bool]] | None = None
    ready_timeout: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace: float = 30.0
    pass_fds: tuple[int, ...] = ()
    on_death: Callable[[int], None] | None = None
    hint: str = ""


def die_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn` after which the kernel sends SIGTERM to the process when the calling thread is gone.

    None where the system has no such thing. Call it in the thread that starts the process: the main one.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def hook() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        # A parent that died before the call above sends no signal any more.
        if os.getppid() != parent:
            os._exit(1)

    return hook


def describe_exit(returncode: int) -> str:
    """`exit code 3`, or the signal's name for a process that was killed (a negative return code)."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


class _Child:
    """The current process of one spec."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self.exited = asyncio.Event()
        self.exited.set()
        self.deaths_in_a_row = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, preexec: Callable[[], None] | None) -> None:
        """Raises OSError when the program can't be run."""
        self._process = subprocess.Popen(
            self.spec.argv,
            executable=self.spec.executable,
            env=self.spec.env,
            stdin=subprocess.DEVNULL,
            pass_fds=self.spec.pass_fds,
            start_new_session=True,  # Ctrl-C of the terminal reaches the supervisor alone
            preexec_fn=preexec,
        )
        self.exited.clear()

    def poll(self) -> None:
        """Notice that the process is gone; whatever it left running in its group goes with it."""
        process = self._process
        if process is None or self.exited.is_set() or process.poll() is None:
            return
        self._signal_group(process.pid, signal.SIGKILL)
        self.exited.set()
        if self.spec.on_death is not None:
            self.spec.on_death(process.pid)

    def ask_to_stop(self) -> None:
        if self._process is not None and not self.exited.is_set():
            self._process.send_signal(self.spec.stop_signal)

    def kill(self) -> None:
        if self._process is not None and not self.exited.is_set():
            self._signal_group(self._process.pid, signal.SIGKILL)

    @property
    def refused(self) -> bool:
        """It ended by saying that it cannot run with these settings; trying again would only say so again."""
        return self._process is not None and self._process.returncode == REFUSAL_EXIT_CODE

    @property
    def waits(self) -> bool:
        """It ended because something that it needs is away, and may be back the next time."""
        return self._process is not None and self._process.returncode == TEMPORARY_EXIT_CODE

    def obituary(self) -> str:
        process = self._process
        if process is None or process.returncode is None:
            return f"{self.spec.name} did not start"
        return f"{self.spec.name} (pid {process.pid}) died: {describe_exit(process.returncode)}"

    @staticmethod
    def _signal_group(pid: int, number: signal.Signals) -> None:
        # macOS answers EPERM instead of ESRCH for a group of zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)


class Supervisor:
    """Runs its children until SIGINT, SIGTERM or SIGHUP asks it to stop; a second signal kills them at once.

    `report` gets one line for each thing that went wrong. `on_ready` is called when all children of the first start
    answer, `on_stopping` before the first of them is asked to stop.
    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        report: Callable[[str], None],
        *,
        on_ready: Callable[[], None] | None = None,
        on_stopping: Callable[[], None] | None = None,
    ) -> None:
        self._children = [_Child(spec) for spec in specs]
        self._report = report
        self._on_ready = on_ready
        self._on_stopping = on_stopping
        self._stop = asyncio.Event()
        self._exit_code = 0
        self._preexec = die_with_parent()

    async def run(self) -> int:
        """Exit code: 0 after a clean stop, 1 when a child could not start or had to be killed by a second signal."""
        keepers: list[asyncio.Task[None]] = []
        with self._signal_handlers():
            try:
                for stage in self._stages():
                    awaited = [child for child in stage if child.spec.ready is not None]
                    keepers += [self._keeper(child) for child in awaited]
                    await self._until_ready(awaited)
                    keepers += [self._keeper(child) for child in stage if child.spec.ready is None]
                if self._on_ready is not None and not self._stop.is_set():
                    self._on_ready()
                await self._stop.wait()
            finally:
                await self._shut_down()
            for keeper in keepers:
                await keeper
        return self._exit_code

    def _stages(self) -> list[list[_Child]]:
        numbers = sorted({child.spec.stage for child in self._children})
        return [[child for child in self._children if child.spec.stage == number] for number in numbers]

    def _keeper(self, child: _Child) -> asyncio.Task[None]:
        keeper = asyncio.create_task(self._keep(child))
        # It ends early only by an error of ours, which `run` raises once everything is stopped.
        keeper.add_done_callback(lambda _: self._stop.set())
        return keeper

    async def _until_ready(self, children: list[_Child]) -> None:
        ready = asyncio.gather(*(child.ready.wait() for child in children))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((ready, stopping), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        stopping.cancel()
        await asyncio.gather(ready, stopping, return_exceptions=True)

    async def _keep(self, child: _Child) -> None:
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            begun = loop.time()
            try:
                child.start(self._preexec)
            except OSError as error:
                self._report(f"{child.spec.name} cannot be run: {error}")
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch_start(child))
                await child.exited.wait()
                watch.cancel()
            if not self._stop.is_set():
                await self._after_death(child, settled=loop.time() - begun >= SETTLED_SECONDS)

    async def _watch_start(self, child: _Child) -> None:
        ready, limit = child.spec.ready, child.spec.ready_timeout
        if child.ready.is_set():
            return
        if ready is None:
            await asyncio.sleep(SETTLED_SECONDS)
            child.ready.set()
            return
        try:
            async with asyncio.timeout(limit):
                answered = await ready()
                while not answered:
                    await asyncio.sleep(PROBE_INTERVAL_SECONDS)
                    answered = await ready()
        except TimeoutError:
            self._give_up(child, f"{child.spec.name} did not get ready within {limit:g} s")
        else:
            child.ready.set()

    async def _after_death(self, child: _Child, *, settled: bool) -> None:
        child.deaths_in_a_row = 1 if settled else child.deaths_in_a_row + 1
        if not child.ready.is_set() and child.refused:
            self._give_up(child, f"{child.spec.name} cannot start with these settings")
            return
        if not child.ready.is_set() and child.deaths_in_a_row >= START_ATTEMPTS and not child.waits:
            self._give_up(child, f"{child.obituary()}; it could not start in {START_ATTEMPTS} attempts")
            return
        delay = RESTART_DELAYS[min(child.deaths_in_a_row, len(RESTART_DELAYS)) - 1]
        self._report(f"{child.obituary()}; starting it again" + (f" in {delay:g} s" if delay else ""))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), delay)

    def _give_up(self, child: _Child, line: str) -> None:
        self._report(f"{line}; {child.spec.hint}" if child.spec.hint else line)
        self._exit_code = 1
        self._stop.set()

    async def _shut_down(self) -> None:
        self._stop.set()
        if self._on_stopping is not None:
            self._on_stopping()
        for stage in reversed(self._stages()):
            await asyncio.gather(*(self._stop_child(child) for child in stage))

    async def _stop_child(self, child: _Child) -> None:
        grace = child.spec.stop_grace
        child.ask_to_stop()
        try:
            async with asyncio.timeout(grace):
                await child.exited.wait()
        except TimeoutError:
            self._report(f"{child.spec.name} did not stop within {grace:g} s and is killed")
            child.kill()
            await child.exited.wait()

    @contextlib.contextmanager
    def _signal_handlers(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        asked = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup wants it ignored
            asked.append(signal.SIGHUP)
        for number in asked:
            loop.add_signal_handler(number, self._on_stop_signal)
        loop.add_signal_handler(signal.SIGCHLD, self._on_child_signal)
        try:
            yield
        finally:
            for number in (*asked, signal.SIGCHLD):
                loop.remove_signal_handler(number)

    def _on_stop_signal(self) -> None:
        if self._stop.is_set():
            self._exit_code = 1
            for child in self._children:
                child.kill()
        self._stop.set()

    def _on_child_signal(self) -> None:
        for child in self._children:
            child.poll()
