"""Python's garbage collector, as a process of ours runs it once its parts are loaded."""

import gc

# Objects that must have come since the last look. Python's own 700 have it look several times in every answer; what it
# finds are cycles of a request that ended, and the p99 of answers beside a busy worker pays for the looking
# (benchmarks/README.md, accepting).
YOUNG_OBJECTS = 10_000


def start_collector() -> None:
    """Begin to collect; what stands by now is never looked at again."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
    gc.enable()
