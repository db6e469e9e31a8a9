"""A training killed anywhere and begun again ends like one that was left alone, bit for bit."""

import pytest
import torch
from small_training import SHORT, model, same_weights, silent, trainer, unchanged, validate, without_seconds

from vtn.training import resume

STEPS = 9  # 3 epochs of 3 batches
CHANGES = {
    "plain": {},
    "accumulate": {"accumulate": 2},
    "average": {"ema_decay": 0.5},
    "steps in the groups": {"optimizer": "lamb"},
    "momentum": {"optimizer": "sgd", "accumulate": 2, "ema_decay": 0.9},
}


class KilledError(Exception):
    """Stands for a kill: whatever the trainer holds in memory is lost."""


def dies(callback, *, at):
    """`callback`, which the process does not survive the `at`-th time."""
    calls = 0

    def call(argument):
        nonlocal calls
        calls += 1
        if calls == at:
            raise KilledError
        return callback(argument)

    return call


def again(work, train, killed):
    """Train until `killed` (a triple of callbacks) dies, then with a new trainer; the model and its history."""
    with pytest.raises(KilledError):
        trainer(model(), work, train=train).fit(*killed)
    return finish(work, train)


def finish(work, train):
    trained = model()
    return trained, trainer(trained, work, train=train).fit(unchanged, validate, silent)


def assert_same(one, other):
    assert without_seconds(one[1]) == without_seconds(other[1])
    assert same_weights(one[0], other[0])


@pytest.mark.parametrize("change", CHANGES)
def test_a_training_killed_at_any_step_ends_like_one_that_was_not(tmp_path, change):
    train = SHORT.model_copy(update=CHANGES[change])
    undisturbed = finish(tmp_path / "undisturbed", train)
    for step in range(1, STEPS + 1):
        killed = dies(unchanged, at=step), validate, silent
        assert_same(again(tmp_path / str(step), train, killed), undisturbed)
    states = [resume.load_tensors(tmp_path / name / "state.safetensors")[0] for name in ("undisturbed", "5")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_training_killed_between_epochs_ends_like_one_that_was_not(tmp_path, epoch):
    train = SHORT.model_copy(update={"ema_decay": 0.5})
    undisturbed = finish(tmp_path / "undisturbed", train)
    in_validation = unchanged, dies(validate, at=epoch), silent
    assert_same(again(tmp_path / "validation", train, in_validation), undisturbed)
    after_it = unchanged, validate, dies(silent, at=epoch)
    assert_same(again(tmp_path / "after", train, after_it), undisturbed)


def test_a_finished_training_is_not_repeated(tmp_path):
    first = finish(tmp_path, SHORT)
    trained = model()
    history = trainer(trained, tmp_path).fit(dies(unchanged, at=1), dies(validate, at=1), silent)
    assert_same((trained, history), first)


def test_the_state_is_saved_no_more_often_than_asked(tmp_path):
    with pytest.raises(KilledError):
        trainer(model(), tmp_path, minutes=10).fit(dies(unchanged, at=3), validate, silent)
    assert not (tmp_path / "state.safetensors").exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    resume.save_tensors(path, {"a": torch.zeros(2)}, {"epoch": 1})

    def full(tensors, partial, metadata):
        partial.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(resume, "save_file", full)
    with pytest.raises(
        ValueError, match=r"state\.safetensors cannot be written: no space .*the same command"
    ):
        resume.save_tensors(path, {"a": torch.ones(2)}, {"epoch": 2})
    assert [found.name for found in tmp_path.iterdir()] == ["state.safetensors"]
    tensors, facts = resume.load_tensors(path)
    assert (tensors["a"].tolist(), facts) == ([0.0, 0.0], {"epoch": 1})


@pytest.mark.parametrize("name", ["state", "best"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "gone"])
def test_damaged_files_are_named_with_the_remedy(tmp_path, name, damage):
    finish(tmp_path, SHORT)
    path = tmp_path / f"{name}.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    if damage == "gone":
        path.unlink()
        if name == "state":  # then it is a new training
            finish(tmp_path, SHORT)
            return
    with pytest.raises(
        ValueError, match=rf"{name}\.safetensors is gone or damaged .*; remove {tmp_path} and run"
    ):
        finish(tmp_path, SHORT)


def test_the_randomness_of_a_step_follows_from_seed_and_number():
    draws = {}
    for seed, step in [(0, 1), (1, 0), (0, 2), (2**31 - 1, 5), (0, 1)]:
        resume.seed_step(seed, step)
        drawn = tuple(torch.rand(3).tolist())
        assert draws.setdefault((seed, step), drawn) == drawn
    assert len(set(draws.values())) == 4
