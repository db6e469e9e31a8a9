"""Optimiser, schedule and average: what each key of `train` does to rates and weights."""

from itertools import pairwise

import pytest
import torch
from small_training import model

from vtn.sections import TrainConfig
from vtn.training import optimiser
from vtn.training.optimiser import build_average, build_optimizer, build_schedule

PER_EPOCH = 4
RATE = 0.1


def recipe(**changes):
    return TrainConfig(**{"epochs": 10, "learning_rate": RATE, "warmup_epochs": 2, **changes})


def rates(train):
    """The learning rate of each update of a training."""
    optimizer = build_optimizer(model(), train)
    schedule = build_schedule(optimizer, train, updates_per_epoch=PER_EPOCH)
    found = []
    for update in range(train.epochs * PER_EPOCH):
        schedule.step_update(update)
        found.append(max(group["lr"] for group in optimizer.param_groups))
    return found


@pytest.mark.parametrize("schedule", [{"schedule": "cosine"}, {"schedule": "step", "decay_epochs": (5, 8)}])
def test_the_warm_up_rises_in_a_line_from_a_hundredth(schedule):
    warm = rates(recipe(**schedule))[: 2 * PER_EPOCH]
    assert warm[0] == pytest.approx(RATE / 100)
    steps = [after - before for before, after in pairwise(warm)]
    assert steps == pytest.approx([RATE * 0.99 / (2 * PER_EPOCH)] * len(steps))


def test_cosine_falls_to_nothing():
    found = rates(recipe(schedule="cosine", warmup_epochs=0))
    assert found[0] == pytest.approx(RATE)
    assert found[5 * PER_EPOCH] == pytest.approx(RATE / 2)
    assert found == sorted(found, reverse=True) and found[-1] < RATE / 100


def test_step_falls_at_its_epochs():
    found = rates(recipe(schedule="step", decay_epochs=(5, 8), decay_rate=0.1))
    first, second = 5 * PER_EPOCH, 8 * PER_EPOCH
    assert found[2 * PER_EPOCH : first] == pytest.approx([RATE] * 3 * PER_EPOCH)
    assert found[first:second] == pytest.approx([RATE / 10] * 3 * PER_EPOCH)
    assert found[second:] == pytest.approx([RATE / 100] * 2 * PER_EPOCH)


def test_constant_stays_and_knows_no_warm_up():
    assert rates(recipe(schedule="constant")) == pytest.approx([RATE] * 10 * PER_EPOCH)


def test_a_rate_depends_on_the_update_alone():
    train = recipe(schedule="cosine")
    optimizer = build_optimizer(model(), train)
    build_schedule(optimizer, train, updates_per_epoch=PER_EPOCH).step_update(17)
    assert optimizer.param_groups[0]["lr"] == rates(train)[17]


def test_the_backbone_has_its_own_rate_and_vectors_no_decay():
    trained = model(frozen=False)
    optimizer = build_optimizer(trained, recipe(backbone_rate_scale=0.1, weight_decay=0.05))
    build_schedule(optimizer, recipe(schedule="constant"), updates_per_epoch=PER_EPOCH).step_update(0)
    names = {id(parameter): name for name, parameter in trained.named_parameters()}
    seen = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.add(name)
            assert group["lr"] == pytest.approx(RATE * 0.1 if name.startswith("backbone.") else RATE), name
            assert group["weight_decay"] == (0.05 if parameter.ndim > 1 else 0.0), name
    assert seen == {name for name, parameter in trained.named_parameters() if parameter.requires_grad}


def test_a_frozen_backbone_is_left_to_itself():
    trained = model(frozen=True)
    given = {id(one) for group in build_optimizer(trained, recipe()).param_groups for one in group["params"]}
    assert not given & {id(parameter) for parameter in trained.backbone.parameters()}


@pytest.mark.parametrize("name", ["adam_w", "lookahead_adam_w"])
def test_an_unknown_optimiser_is_refused_with_its_nearest_names(name):
    message = rf"train\.optimizer: '{name}' is no timm optimiser; did you mean adamw or \w+ or \w+\?"
    with pytest.raises(ValueError, match=message):
        build_optimizer(model(), recipe(optimizer=name))


def test_an_optimiser_that_cannot_run_here_is_not_called_unknown(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("APEX and CUDA required for fused optimizers")

    monkeypatch.setattr(optimiser, "get_optimizer_class", refuse)
    with pytest.raises(ValueError, match=r"'fusedadam' cannot be used \(APEX .*\); choose another"):
        build_optimizer(model(), recipe(optimizer="fusedadam"))


@pytest.mark.parametrize(("name", "fused"), [("adamw", True), ("lookahead_sgd", True), ("lamb", None)])
def test_pytorch_s_own_optimisers_update_in_one_kernel(name, fused):
    assert build_optimizer(model(), recipe(optimizer=name)).defaults.get("fused") == fused


@pytest.mark.parametrize("name", ["sgd", "adamw", "AdamW", "lamb", "lion", "lookahead_sgd"])
def test_timm_s_optimisers_are_known_by_name(name):
    assert build_optimizer(model(), recipe(optimizer=name)).param_groups


def test_an_average_is_made_where_asked_and_follows_slowly():
    trained = model()
    assert build_average(trained, recipe()) is None
    average = build_average(trained, recipe(ema_decay=0.75))
    weight = trained.head[1].weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight += 1.0
    average.update(trained)
    torch.testing.assert_close(average.module.head[1].weight, before + 0.25)
