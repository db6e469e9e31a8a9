"""A study searched by Optuna: resumable, shared by any number of worker processes on one machine."""

import contextlib
import os
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from vtn.study import Range, Study

JOURNAL = "journal.log"

Evaluate = Callable[[int, dict[str, Any]], dict[str, Any]]
"""(number of the point's first attempt, dotted changes) -> numbers, the objectives among them."""


class Search:
    """One study in a journal file; a trial whose process died is queued again."""

    def __init__(self, study: Study, *, key: str, seed: int, directory: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directory.mkdir(parents=True, exist_ok=True)
        self._space, self._wanted, self._seed, self._directory = study, study.trials, seed, directory
        self._objectives = list(study.objectives)
        self._lock = FileLock(directory / "search.lock")
        with self._lock:
            _mend(directory / JOURNAL)
            self._optuna = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(directory / JOURNAL))),
                study_name=key,
                directions=list(study.objectives.values()),
                load_if_exists=True,
            )
            if study.is_grid:
                self._enqueue_grid()

    @property
    def complete(self) -> list[FrozenTrial]:
        """Finished trials in the order of their numbers."""
        return self._trials(TrialState.COMPLETE)

    @property
    def wanted(self) -> int:
        """How many trials make the study complete."""
        return self._wanted or len(list(self._grid()))

    def run(self, evaluate: Evaluate) -> None:
        """Run what is missing; other processes may do the same at the same time."""
        while (claimed := self._claim()) is not None:
            trial, lock = claimed
            try:
                numbers = evaluate(self.first_attempt(trial), trial.params)
                trial.set_user_attr("numbers", numbers)
                self._optuna.tell(trial, [float(numbers[name]) for name in self._objectives])
            except Exception:
                self._optuna.tell(trial, state=TrialState.FAIL)
                raise
            finally:
                lock.release()

    def best(self) -> list[FrozenTrial]:
        """The trials that no other beats in every objective."""
        best: list[FrozenTrial] = self._optuna.best_trials
        return best

    def first_attempt(self, trial: optuna.Trial | FrozenTrial) -> int:
        """The number under which a point was tried first, interrupted or failed: its run is taken up again."""
        failed = self._trials(TrialState.FAIL)
        number: int = min(
            [trial.number, *(other.number for other in failed if _point(other) == trial.params)]
        )
        return number

    def _claim(self) -> tuple[optuna.Trial, FileLock] | None:
        """The next trial with its lock, or None where the rest is done or in other hands."""
        with self._lock:
            self._requeue_dead()
            done = len(self._trials(TrialState.COMPLETE, TrialState.RUNNING))
            # An empty queue ends a grid: a point that failed elsewhere is not replaced by one that is done.
            if not self._trials(TrialState.WAITING) and (self._space.is_grid or done >= self.wanted):
                return None
            # Seeded by its number, so that an interrupted search draws what an uninterrupted one draws.
            self._optuna.sampler = optuna.samplers.TPESampler(seed=self._seed + done)
            trial = self._optuna.ask()
            for key, values in self._space.space.items():
                _suggest(trial, key, values)
            lock = self._trial_lock(trial.number)
            lock.acquire()
        return trial, lock

    def _requeue_dead(self) -> None:
        """Fail the trials whose process is gone, which the system tells by their free lock."""
        for trial in self._trials(TrialState.RUNNING):
            lock = self._trial_lock(trial.number)
            with contextlib.suppress(Timeout), lock.acquire(timeout=0):
                self._optuna.tell(trial.number, state=TrialState.FAIL)
                print(f"trial {trial.number} was interrupted: queued again")
                if point := _point(trial):
                    self._optuna.enqueue_trial(point)

    def _enqueue_grid(self) -> None:
        # Interrupted or failed points are not in the queue any more, whatever skip_if_exists thinks.
        alive = self._trials(TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
        known = [_point(trial) for trial in alive]
        for point in self._grid():
            if point not in known:
                self._optuna.enqueue_trial(point)

    def _grid(self) -> Iterator[dict[str, Any]]:
        keys, values = list(self._space.space), list(self._space.space.values())
        for combination in product(*(value for value in values if isinstance(value, tuple))):
            yield dict(zip(keys, combination, strict=True))

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        found: list[FrozenTrial] = self._optuna.get_trials(deepcopy=False, states=states)
        return found

    def _trial_lock(self, number: int) -> FileLock:
        return FileLock(self._directory / f"trial-{number}.lock")


def _mend(journal: Path) -> None:
    """Cut off a last line that a full disk or a power cut left half written: what follows would be unreadable."""
    if journal.exists() and (content := journal.read_bytes()) and not content.endswith(b"\n"):
        os.truncate(journal, content.rfind(b"\n") + 1)


def _point(trial: FrozenTrial) -> dict[str, Any]:
    """The params of a trial, also of one that was queued and has drawn nothing yet."""
    queued: dict[str, Any] = trial.system_attrs.get("fixed_params") or trial.params
    return queued


def _suggest(trial: optuna.Trial, key: str, values: Range | tuple[Any, ...]) -> None:
    if isinstance(values, tuple):
        trial.suggest_categorical(key, values)
    elif isinstance(values.low, int) and isinstance(values.high, int):
        trial.suggest_int(key, values.low, values.high, log=values.log)
    else:
        trial.suggest_float(key, values.low, values.high, log=values.log)
