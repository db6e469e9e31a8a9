"""A search runs each point once, whatever dies in between, and says when it is complete."""

import json
import multiprocessing
import os
import signal
import time
from collections import Counter

import pytest

from sweeps.search import Search
from vtn.study import Study

FRAMES = [1, 2, 4, 8]
ASKED = {
    "title": "t",
    "why": "w",
    "features": "none",
    "objectives": {"top1": "maximize", "latency_ms_p50": "minimize"},
    "report": ("top1", "latency_ms_p50"),
}
GRID = Study.model_validate({**ASKED, "space": {"clip.frames": FRAMES}})
SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "train.warmup_epochs": {"low": 0, "high": 2},
    "model.temporal.dropout": {"low": 0.0, "high": 1.0},
    "model.head.hidden": {"low": 8, "high": 256, "log": True},
}
RANGES = Study.model_validate({**ASKED, "space": SPACE, "trials": 5})


def search(directory, study=GRID):
    return Search(study, key="mine", seed=0, directory=directory)


def numbers(changes):
    frames = changes.get("clip.frames", 1)
    return {"top1": min(frames, 4) / 10, "latency_ms_p50": float(frames)}


class Recorder:
    """Evaluates points at once and remembers them; fails, or kills its process, at one of them."""

    def __init__(self, *, fails_at=None, dies_at=None):
        self.seen, self.fails_at, self.dies_at = [], fails_at, dies_at

    def __call__(self, number, changes):
        self.seen.append(changes)
        if changes.get("clip.frames") == self.dies_at is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        if changes.get("clip.frames") == self.fails_at is not None:
            raise ValueError("this point fails")
        return numbers(changes)


def points(found):
    return sorted(trial.params["clip.frames"] for trial in found.complete)


def work(directory, dies_at):
    search(directory).run(Recorder(dies_at=dies_at))


def start(target, *arguments):
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    return process


def test_a_grid_runs_each_point_once(tmp_path):
    found, recorder = search(tmp_path), Recorder()
    assert found.wanted == len(FRAMES)
    found.run(recorder)
    assert sorted(point["clip.frames"] for point in recorder.seen) == points(found) == FRAMES


def test_a_second_search_is_complete_and_runs_nothing(tmp_path):
    search(tmp_path).run(Recorder())
    again, recorder = search(tmp_path), Recorder()
    assert len(again.complete) == again.wanted
    again.run(recorder)
    assert recorder.seen == []
    assert [trial.user_attrs["numbers"] for trial in again.complete] == [
        numbers(trial.params) for trial in again.complete
    ]


def test_a_trial_killed_in_the_middle_is_queued_again(tmp_path, capsys):
    killed = start(work, tmp_path, 4)
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    found, recorder = search(tmp_path), Recorder()
    done = points(found)
    assert 4 not in done
    found.run(recorder)
    assert "was interrupted: queued again" in capsys.readouterr().out
    assert points(found) == FRAMES
    assert Counter(point["clip.frames"] for point in recorder.seen) == Counter(set(FRAMES) - set(done))


def test_a_failure_is_raised_and_its_point_runs_next_time(tmp_path):
    with pytest.raises(ValueError, match="this point fails"):
        search(tmp_path).run(Recorder(fails_at=2))
    found, recorder = search(tmp_path), Recorder()
    assert len(found.complete) < found.wanted
    found.run(recorder)
    assert points(found) == FRAMES
    assert 2 in [point["clip.frames"] for point in recorder.seen]


def test_a_later_attempt_has_the_number_of_the_first_one(tmp_path):
    numbers_of = {}

    def fails_once(number, changes):
        if numbers_of.setdefault(changes["clip.frames"], number) == number and changes["clip.frames"] == 2:
            raise ValueError("this point fails")
        return numbers(changes)

    def remembers(number, changes):
        assert numbers_of.setdefault(changes["clip.frames"], number) == number
        return numbers(changes)

    with pytest.raises(ValueError, match="this point fails"):
        search(tmp_path).run(fails_once)
    found = search(tmp_path)
    found.run(remembers)
    given = {trial.params["clip.frames"]: found.first_attempt(trial) for trial in found.complete}
    assert given == numbers_of and sorted(given.values()) == list(range(len(FRAMES)))


def test_another_worker_never_replaces_a_failed_point_by_one_that_was_done(tmp_path):
    """The failed point is the failing worker's to report; the other one ends with what is left of the grid."""
    other = search(tmp_path)
    with pytest.raises(ValueError, match="this point fails"):
        search(tmp_path).run(Recorder(fails_at=2))
    other.run(Recorder())
    assert Counter(points(other)) == Counter(set(FRAMES) - {2})


def wait(directory):
    """Evaluate slowly, until the file that ends the wait appears."""

    def evaluate(number, changes):
        (directory / f"running-{changes['clip.frames']}").touch()
        while not (directory / "go").exists():
            time.sleep(0.02)
        return numbers(changes)

    search(directory).run(evaluate)


def test_a_trial_in_other_hands_is_left_to_them(tmp_path):
    other = start(wait, tmp_path)
    try:
        while not (running := list(tmp_path.glob("running-*"))):
            assert other.is_alive()
            time.sleep(0.02)
        taken = int(running[0].name.removeprefix("running-"))
        found, recorder = search(tmp_path), Recorder()
        found.run(recorder)
        assert sorted(point["clip.frames"] for point in recorder.seen) == sorted(set(FRAMES) - {taken})
    finally:
        (tmp_path / "go").touch()
        other.join(60)
    assert points(found) == FRAMES


def test_ranges_are_searched_for_as_many_trials_as_asked(tmp_path):
    found, recorder = search(tmp_path, RANGES), Recorder()
    found.run(recorder)
    assert len(recorder.seen) == len(found.complete) == 5
    for point in recorder.seen:
        assert 1e-4 <= point["train.learning_rate"] <= 1e-1
        assert point["train.warmup_epochs"] in (0, 1, 2)
        assert isinstance(point["model.head.hidden"], int)
    assert any(0 < point["model.temporal.dropout"] < 1 for point in recorder.seen)


def test_an_interrupted_search_draws_what_an_uninterrupted_one_draws(tmp_path):
    whole, first, second = Recorder(), Recorder(), Recorder()
    search(tmp_path / "whole", RANGES).run(whole)

    def interrupted(number, changes):
        if len(first.seen) == 2:
            raise KeyboardInterrupt
        return first(number, changes)

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "parts", RANGES).run(interrupted)
    search(tmp_path / "parts", RANGES).run(second)
    assert first.seen + second.seen == whole.seen


def test_the_best_are_those_that_no_other_beats_in_everything(tmp_path):
    found = search(tmp_path)
    found.run(Recorder())
    assert sorted(trial.params["clip.frames"] for trial in found.best()) == [
        1,
        2,
        4,
    ]  # 8 is as good and slower


def test_a_result_without_an_objective_fails_the_trial(tmp_path):
    found = search(tmp_path)
    with pytest.raises(KeyError, match="latency_ms_p50"):
        found.run(lambda number, changes: {"top1": 0.5})
    assert not found.complete
    again = search(tmp_path)
    again.run(Recorder())
    assert points(again) == FRAMES


def test_a_half_written_last_line_of_the_journal_is_cut_off(tmp_path):
    search(tmp_path).run(Recorder())
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    assert len(search(tmp_path).complete) == len(FRAMES)
    assert journal.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in journal.read_text().splitlines())
