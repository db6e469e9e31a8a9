"""The training loop learns, repeats, chooses the best epoch and stops at a loss that is not finite."""

import copy

import pytest
import torch
from accelerate.state import AcceleratorState
from small_training import (
    LABELLED,
    SHORT,
    model,
    same_weights,
    silent,
    trainer,
    unchanged,
    validate,
    without_dropout,
    without_seconds,
)

from vtn.training.augmentation import preparation

ONE_BATCH = SHORT.model_copy(
    update={"epochs": 40, "batch_size": 12, "schedule": "constant", "label_smoothing": 0.0}
)


def scripted(*answers, losses=None):
    """A validation that finds these top-1 values, and copies of the models that it was shown."""
    shown = []

    def validate(candidate):
        shown.append(copy.deepcopy(candidate))
        epoch = len(shown) - 1
        return {"top1": answers[epoch], "loss": losses[epoch] if losses else 1.0}

    return validate, shown


def fit(trained, work, *, prepare=unchanged, check=validate, **options):
    return trainer(trained, work, **options).fit(prepare, check, silent)


def frames_as_the_backbone_wants(trained):
    return preparation(trained.backbone.normalise)


def test_features_of_one_batch_are_learnt_by_heart(tmp_path):
    trained = without_dropout(model())
    history = fit(trained, tmp_path, train=ONE_BATCH, minutes=10)
    assert history[0]["train_loss"] > 0.9
    assert history[-1]["train_loss"] < 0.1
    assert validate(trained)["top1"] == 1.0


def test_frames_of_one_batch_are_learnt_by_heart(tmp_path):
    trained = without_dropout(model(frozen=False))
    check, _ = scripted(*[0.5] * 40)
    prepare = frames_as_the_backbone_wants(trained)
    history = fit(trained, tmp_path, train=ONE_BATCH, prepare=prepare, check=check, minutes=10)
    assert history[0]["train_loss"] > 0.9
    assert history[-1]["train_loss"] < 0.1


@pytest.mark.parametrize("change", [{}, {"ema_decay": 0.5}, {"accumulate": 2}])
def test_the_same_seed_gives_the_same_training(tmp_path, change):
    train = SHORT.model_copy(update=change)
    models = model(), model()
    histories = [fit(one, tmp_path / str(n), train=train) for n, one in enumerate(models)]
    assert without_seconds(histories[0]) == without_seconds(histories[1])
    assert same_weights(*models)


def test_another_seed_gives_another_training(tmp_path):
    losses = [fit(model(), tmp_path / str(seed), seed=seed)[0]["train_loss"] for seed in (0, 1)]
    assert losses[0] != losses[1]


def test_the_number_of_loader_workers_does_not_matter(tmp_path):
    models = model(), model()
    histories = [
        fit(one, tmp_path / str(workers), workers=workers)
        for one, workers in zip(models, (0, 2), strict=True)
    ]
    assert without_seconds(histories[0]) == without_seconds(histories[1])
    assert same_weights(*models)


def test_the_earliest_of_the_best_epochs_is_kept(tmp_path):
    train = SHORT.model_copy(update={"epochs": 4})
    check, shown = scripted(0.1, 0.5, 0.5, 0.2)
    trained = model()
    history = fit(trained, tmp_path, train=train, check=check)
    assert [row["val_top1"] for row in history] == [0.1, 0.5, 0.5, 0.2]
    assert same_weights(trained, shown[1])
    assert not same_weights(trained, shown[2])


def test_of_equal_epochs_the_one_with_the_lowest_loss_is_kept(tmp_path):
    check, shown = scripted(0.5, 0.5, 0.4, losses=[1.0, 0.8, 0.1])
    trained = model()
    fit(trained, tmp_path, check=check)
    assert same_weights(trained, shown[1])


def test_with_an_average_it_is_the_average_that_is_validated_and_kept(tmp_path):
    check, shown = scripted(0.1, 0.2, 0.3)
    trained, plain = model(), model()
    fit(trained, tmp_path / "average", train=SHORT.model_copy(update={"ema_decay": 0.9}), check=check)
    fit(plain, tmp_path / "plain", check=scripted(0.1, 0.2, 0.3)[0])
    assert same_weights(trained, shown[2])
    assert not same_weights(trained, plain)


@pytest.fixture
def another_precision():
    """accelerate keeps one precision a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("another_precision")
@pytest.mark.parametrize("average", [None, 0.5])
def test_validation_computes_in_float32_whatever_the_precision_of_training(tmp_path, average):
    train = SHORT.model_copy(update={"epochs": 1, "precision": "bf16", "ema_decay": average})
    answers = []

    def check(candidate):
        plain = model()
        plain.load_state_dict(candidate.state_dict())
        answers.extend((validate(candidate), validate(plain)))
        return answers[0]

    trained = model()
    fit(trained, tmp_path, train=train, check=check)
    assert answers[0] == answers[1] == validate(trained)


def test_accumulated_batches_are_one_update(tmp_path):
    """Two halves of a batch with accumulation give the weights of the whole batch, apart from rounding."""
    plain = {"epochs": 1, "warmup_epochs": 0, "label_smoothing": 0.0, "clip_grad": None, "optimizer": "sgd"}
    whole, halves = without_dropout(model()), without_dropout(model())
    fit(whole, tmp_path / "whole", train=SHORT.model_copy(update={**plain, "batch_size": 12}))
    fit(
        halves,
        tmp_path / "halves",
        train=SHORT.model_copy(update={**plain, "batch_size": 6, "accumulate": 2}),
    )
    for left, right in zip(whole.state_dict().values(), halves.state_dict().values(), strict=True):
        torch.testing.assert_close(left, right)
    assert not same_weights(whole, model())


def test_a_loss_that_is_not_finite_names_the_videos(tmp_path):
    with pytest.raises(ValueError, match=r"loss became nan in epoch 1, batch 1 .*learning_rate") as caught:
        fit(model(), tmp_path, prepare=lambda inputs: inputs * torch.nan)
    assert sum(video in str(caught.value) for video in LABELLED.videos) == SHORT.batch_size


def test_a_frozen_backbone_is_untouched_and_the_rest_learns(tmp_path):
    trained, fresh = model(frozen=True), model(frozen=True)
    check, _ = scripted(0.1, 0.2, 0.3)
    fit(trained, tmp_path, prepare=frames_as_the_backbone_wants(trained), check=check)
    assert same_weights(trained.backbone, fresh.backbone)
    assert not same_weights(trained.temporal, fresh.temporal)
    assert not same_weights(trained.head, fresh.head)


def test_every_epoch_is_told_with_its_row(tmp_path):
    told = []
    trainer(model(), tmp_path).fit(unchanged, validate, lambda history: told.append(len(history)))
    assert told == [1, 2, 3]
