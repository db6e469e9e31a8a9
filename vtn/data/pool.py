"""Jobs of several videos each, spread over processes, with one progress bar and a name for who crashed."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, parent_process
from multiprocessing.sharedctypes import RawArray
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

NOT_BEGUN = -1


class Job(Protocol):
    """Work on the videos named by `members`."""

    @property
    def members(self) -> Sequence[str]:
        """In the order in which they are worked on."""


J = TypeVar("J", bound=Job)
R = TypeVar("R")
Task = Callable[[J, Callable[[], None]], R]

# A worker's view of how many videos of each job are done, shared with the parent; set as it starts.
_done: Any = None


def run(task: Task[J, R], jobs: Sequence[J], *, workers: int) -> list[R]:
    """`[task(job, advance) for job in jobs]`, where the task calls `advance` after each video.

    With `workers` processes, or in this one if 0. The first exception of a task is raised, once the jobs under
    way have ended. Raises ValueError that names the videos in question if a process dies.
    """
    done = RawArray("q", [NOT_BEGUN] * len(jobs))
    if not workers:
        with _bar(jobs) as bar:
            return [task(job, bar.update) for job in jobs]
    with ProcessPoolExecutor(min(workers, len(jobs)), initializer=_begin, initargs=(done,)) as pool:
        # The processes are forked by the first submit, before the bar starts a thread.
        futures = [pool.submit(_perform, task, number, job) for number, job in enumerate(jobs)]
        try:
            with _bar(jobs) as bar:
                _follow(futures, done, bar)
        except BrokenProcessPool:
            raise ValueError(_suspects(jobs, done)) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _bar(jobs: Sequence[J]) -> Any:
    # disable=None: silent where nobody watches, as in a log file.
    return tqdm(total=sum(len(job.members) for job in jobs), desc="decode", unit="video", disable=None)


def _follow(futures: Sequence[Future[R]], done: Any, bar: Any) -> None:
    pending = set(futures)
    while pending:
        ended, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
        bar.update(sum(count for count in done if count > 0) - bar.n)
        for future in ended:
            future.result()


def _begin(done: Any) -> None:
    global _done
    _done = done
    # Ctrl-C reaches the whole group: the parent explains it, the workers go without a traceback each.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """Without this a worker outlives a killed parent, and writes beside the run that goes on after it."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _perform(task: Task[J, R], number: int, job: J) -> R:
    _done[number] = 0

    def advance() -> None:
        _done[number] += 1

    return task(job, advance)


def _suspects(jobs: Sequence[J], done: Any) -> str:
    names = [
        job.members[count] for job, count in zip(jobs, done, strict=True) if 0 <= count < len(job.members)
    ]
    return (
        f"a decoding process was killed (out of memory, or a crash of the decoder) while at work on "
        f"{' or '.join(names) or 'the end of a shard'}: the same command goes on where it stopped, and with "
        "machine.workers: 1 it names one video alone"
    )
