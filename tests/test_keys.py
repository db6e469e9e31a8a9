"""A key changes with what a result depends on, and with nothing else."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from vtn import config, keys
from vtn.model import backbone as backbones
from vtn.sections import Params

CORPUS = SimpleNamespace(fingerprint="ab" * 32)


def params(changes):
    return config.with_overrides(Params(), {"machine.device": "cpu", **changes})


def fit_key(changes, **more):
    return keys.fit_key(params(changes), CORPUS, **more)


@pytest.mark.parametrize(
    "same", [{"machine.workers": 1}, {"evaluate.shuffle_frames": True}, {"ablate.epochs": 1}]
)
def test_a_training_does_not_depend_on(same):
    assert fit_key(same) == fit_key({})


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"clip.frames": 2},
        {"train.epochs": 3},
        {"evaluate.max_frames": 7},
        {"evaluate.sampling": "reference", "evaluate.rate": 8, "decode.max_fps": None},
    ],
)
def test_a_training_depends_on(other):
    assert fit_key(other) != fit_key({})


def test_a_training_depends_on_data_and_on_a_given_backbone():
    given = backbones.build(Params().model.backbone, 32)
    assert fit_key({}, trained_backbone=given) != fit_key({})
    assert keys.fit_key(params({}), SimpleNamespace(fingerprint="cd" * 32)) != fit_key({})


def test_local_weights_count_by_content_and_not_by_path(tmp_path):
    files = [Path(tmp_path / name) for name in ("a.pth", "b.pth")]
    for file in files:
        file.write_bytes(b"one")
    first, moved = (fit_key({"model.backbone.weights": str(file)}) for file in files)
    assert first == moved != fit_key({})
    files[0].write_bytes(b"two")
    assert fit_key({"model.backbone.weights": str(files[0])}) != first


def test_a_study_depends_on_all_of_evaluate_and_on_its_own_facts():
    key = keys.study_key(params({}), CORPUS, weights="w1")
    assert keys.study_key(params({"machine.workers": 1}), CORPUS, weights="w1") == key
    assert keys.study_key(params({"evaluate.shuffle_frames": True}), CORPUS, weights="w1") != key
    assert keys.study_key(params({}), CORPUS, weights="w2") != key
