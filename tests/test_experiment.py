"""One experiment on a tiny `motions`: training's number is evaluation's, and twice is the same."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from vtn import config, experiment, study
from vtn.data import sources
from vtn.data.corpus import Corpus
from vtn.data.packing import pack
from vtn.model import backbone as backbones
from vtn.model import checkpoint
from vtn.sections import Params

REPOSITORY = Path(__file__).parent.parent
TINY = {
    "dataset.motions.train_clips": 18,
    "dataset.motions.val_clips": 18,
    "dataset.motions.test_clips": 9,
    "dataset.motions.size": 32,
    "decode.short_side": 32,
    "decode.shards": 2,
    "clip.crop": 32,
    "clip.frames": 4,
    "train.epochs": 2,
    "train.warmup_epochs": 0,
    "train.precision": "float32",
    "evaluate.speed.warmup": 1,
    "evaluate.speed.repeats": 5,
    "machine.device": "cpu",
    "machine.workers": 0,
}


def params(**changes) -> Params:
    tiny = config.with_overrides(config.load(REPOSITORY / "params.yaml"), TINY)
    return config.with_overrides(tiny, {key.replace("__", "."): value for key, value in changes.items()})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motions")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        annotations = sources.prepare(params().dataset, seed=0, workers=0)
        videos = params().dataset.videos.resolve()
    annotations = annotations.assign(group="") if "group" not in annotations else annotations
    pack(annotations, videos, folder / "frames", decode=params().decode, workers=0)
    return Corpus.open(folder / "frames")


@pytest.fixture(autouse=True)
def features_elsewhere(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(experiment, "FEATURES", tmp_path_factory.mktemp("features"))


def silent(history):
    """Tell nobody about an epoch."""


def backbone():
    torch.manual_seed(3)
    return backbones.build(params().model.backbone, 32)


@pytest.mark.parametrize("changes", [{}, {"train__ema_decay": 0.5}], ids=["plain", "average"])
def test_evaluation_reproduces_the_validation_of_the_best_epoch(corpus, tmp_path, changes):
    prepared = experiment.prepare(params(evaluate__split="val", **changes), corpus)
    history = experiment.fit(prepared, work=tmp_path / "work", on_epoch=silent)
    numbers = experiment.evaluate(prepared).numbers
    best = max(history, key=lambda row: (row["val_top1"], -row["val_loss"]))
    found = [numbers[name] for name in ("top1", "top5", "nll")]
    assert found == [best[f"val_{name}"] for name in ("top1", "top5", "loss")]


def test_an_experiment_repeated_elsewhere_gives_the_same_numbers(corpus, tmp_path):
    histories, rows = [], []
    for name in ("one", "other"):
        rows.append(experiment.run(params(), corpus, work=tmp_path / name, on_epoch=histories.append))
    for name in ("top1", "top5", "nll", "protocol", "epochs", "parameters"):
        assert rows[0][name] == rows[1][name], name
    one, other = (histories[place] for place in (0, -1))
    assert [row["train_loss"] for row in one] == [row["train_loss"] for row in other]


def test_a_row_has_the_numbers_that_tables_and_studies_may_name_and_no_other(corpus, tmp_path):
    row = experiment.run(params(train__epochs=1), corpus, work=tmp_path, on_epoch=silent)
    assert set(row) == {*study.NUMBERS, "seed", "protocol"}


def test_a_row_on_trained_features_leaves_the_backbone_as_it_was(corpus, tmp_path):
    given = backbone()
    before = copy.deepcopy(given.state_dict())
    prepared = experiment.prepare(params(), corpus, trained_backbone=given)
    assert prepared.on_features and given.frozen
    head = copy.deepcopy(prepared.model.head.state_dict())
    experiment.fit(prepared, work=tmp_path, on_epoch=silent)
    assert all(torch.equal(before[name], tensor) for name, tensor in given.state_dict().items())
    assert any(
        not torch.equal(head[name], tensor) for name, tensor in prepared.model.head.state_dict().items()
    )
    assert "cached features" in experiment.protocol(prepared)


def test_cached_features_give_the_probabilities_of_frames(corpus):
    cached = experiment.prepare(params(), corpus, trained_backbone=backbone())
    direct = experiment.Experiment(cached.params, corpus, cached.model, corpus.store)
    found, wanted = (experiment.evaluate(one).predictions.probabilities for one in (cached, direct))
    assert found == pytest.approx(wanted, abs=1e-5)


def test_a_frozen_backbone_reads_features_unless_frames_are_augmented(corpus, tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save(backbone().network.state_dict(), weights)
    frozen = {"model__backbone__weights": str(weights), "model__backbone__frozen": True}
    assert experiment.prepare(params(**frozen), corpus).on_features
    assert not experiment.prepare(params(**frozen, train__augment__horizontal_flip=0.5), corpus).on_features
    assert not experiment.prepare(params(), corpus).on_features


def test_features_of_another_network_are_not_taken_for_its_own(corpus, tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save(backbone().network.state_dict(), weights)
    frozen = {"model__backbone__weights": str(weights), "model__backbone__frozen": True}
    plain = experiment.prepare(params(**frozen), corpus)
    other = experiment.prepare(params(**frozen, model__backbone__options={"act_layer": "gelu"}), corpus)
    assert plain.backbone.fingerprint() == other.backbone.fingerprint(), "an activation has no weights"
    video = corpus.labelled("val").videos[0]
    assert not np.allclose(plain.source.read(video, [0]), other.source.read(video, [0]))


def test_frames_of_another_recipe_are_refused(corpus):
    message = r"decode\.quality: 75 now, but .*frames was decoded with 90; run `dvc repro decode`"
    with pytest.raises(ValueError, match=message):
        experiment.prepare(params(decode__quality=75), corpus)


def test_a_checkpoint_is_evaluated_as_it_was_trained(corpus, tmp_path):
    prepared = experiment.prepare(params(), corpus)
    card = checkpoint.describe(prepared.model, params(), classes=corpus.classes, data=corpus.fingerprint)
    checkpoint.save(tmp_path / "vtn", prepared.model, card)
    experiment.load_trained(params(evaluate__max_frames=3), corpus, tmp_path / "vtn")
    for key, old, new in (("clip.seconds", 2.0, 1.0), ("model.temporal.layers", 2, 1)):
        other = config.with_overrides(params(), {key: new})
        with pytest.raises(ValueError, match=f"{key}: {new} now, but models/vtn was trained with {old}"):
            experiment.load_trained(other, corpus, tmp_path / "vtn")
        backbone, _ = experiment.load_backbone(other, corpus, tmp_path / "vtn")  # rows change these
        assert backbone.fingerprint() == prepared.backbone.fingerprint()


def test_the_protocol_says_what_a_frozen_backbone_was_trained_on(corpus, tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save(backbone().network.state_dict(), weights)
    frozen = params(model__backbone__weights=str(weights), model__backbone__frozen=True)
    prepared = experiment.prepare(frozen, corpus)
    card = checkpoint.describe(prepared.model, frozen, classes=corpus.classes, data=corpus.fingerprint)
    checkpoint.save(tmp_path / "vtn", prepared.model, card)
    loaded = experiment.load_trained(frozen, corpus, tmp_path / "vtn")
    assert "centre crop" in experiment.protocol(prepared) == experiment.protocol(loaded)
    assert "centre crop" not in experiment.protocol(experiment.prepare(params(), corpus))
