"""Times whose ratios hold on a busy machine: the candidates take turns in one process."""

import statistics
import time
from collections.abc import Callable, Sequence


def medians(passes: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median milliseconds of each pass over `repeats` rounds, after one round to warm up."""
    seconds: list[list[float]] = [[] for _ in passes]
    for repeat in range(repeats + 1):
        for run, spent in zip(passes, seconds, strict=True):
            start = time.perf_counter()
            run()
            if repeat:
                spent.append(time.perf_counter() - start)
    return [1000 * statistics.median(spent) for spent in seconds]
