"""Places where a test can let a process die, to prove that what it leaves behind is put right.

Off unless FAIL_POINT names one, and never on in production. `stored` dies whenever that point is reached,
`stored:3` the third time.
"""

import os
import signal
from collections import Counter


class FailPoints:
    """`armed` is the text of FAIL_POINT, empty for off."""

    def __init__(self, armed: str = "") -> None:
        self._name, _, times = armed.partition(":")
        self._times = int(times or 1)
        self._reached: Counter[str] = Counter()

    def reach(self, name: str) -> None:
        """Die here, as by kill -9, if this point is armed."""
        if name != self._name:
            return
        self._reached[name] += 1
        if self._reached[name] == self._times:
            os.kill(os.getpid(), signal.SIGKILL)
