import re

import numpy as np
import pytest
import torch
from torch import nn

from vtn.explanation import deletion
from vtn.explanation.deletion import Shown
from vtn.explanation.explain import attention
from vtn.model.vtn import VTN, build_on_features
from vtn.sections import HeadConfig, ModelConfig, TemporalConfig

LABELS = ("run", "walk")
WIDTH = 8


def network(**changes):
    torch.manual_seed(0)
    temporal = TemporalConfig(heads=2, feedforward=16, window=4, **{"layers": 2} | changes)
    config = ModelConfig(temporal=temporal, head=HeadConfig(hidden=8))
    return build_on_features(config, num_classes=len(LABELS), features=WIDTH).eval()


def video(frames, *, constant=False):
    features = torch.randn(1, 1 if constant else frames, WIDTH, generator=torch.Generator().manual_seed(1))
    return features.expand(1, frames, WIDTH), torch.arange(frames)[None] * 3


class Bright(nn.Module):
    """A temporal part by hand: the clip is the brightest frame's first feature, and CLS looks at nothing else."""

    def forward(self, features, positions, mask):
        real = torch.ones(features.shape[:2], dtype=torch.bool) if mask is None else mask
        return features[:, :, :1].masked_fill(~real[..., None], 0).amax(dim=1)


def bright(at, frames=40):
    """A model whose answer hangs on one frame, features in which that frame is `at`, and that frame's weight."""
    head = nn.Sequential(nn.Linear(1, 2))
    nn.init.zeros_(head[0].bias)
    head[0].weight.data = torch.tensor([[4.0], [-4.0]])
    features = torch.zeros(1, frames, 1)
    features[0, at] = 1
    weights = np.full((2, 3, frames), 0.01)
    weights[..., at] = 0.8
    return VTN(backbone=None, temporal=Bright(), head=head).eval(), features, weights


def check(model, features, weights, numbers=None, **further):
    positions = torch.arange(features.shape[1])[None]
    numbers = np.arange(features.shape[1]) if numbers is None else numbers
    return deletion.check(model, Shown(features, positions, numbers), weights, labels=LABELS, **further)


def made_up(highest, random, *, whole=0.9):
    """A check of ten frames, one removed; `random` holds one number an order."""
    one = np.array([highest])
    return deletion.Deletion(
        label="run",
        frames=10,
        whole=whole,
        removed=np.array([3]),
        highest=one,
        lowest=np.array([0.88]),
        layers=np.array([[0.5]]),
        random=np.array(random)[:, None],
    )


@pytest.mark.parametrize("changes", [{}, {"norm": "pre"}, {"attention": "full"}, {"layers": 1}])
def test_the_weights_are_those_of_the_plain_reference(changes):
    model, (features, positions) = network(**changes), video(30)
    weights, itself, _ = attention(model, features, positions)
    with torch.no_grad():
        plain = torch.cat(model.temporal.reference(features, positions).cls_weights).numpy()
    assert weights.shape == (changes.get("layers", 2), 2, 30)
    assert weights == pytest.approx(plain[..., 1:], abs=1e-6)
    assert weights.sum(axis=-1) + itself == pytest.approx(1)


@pytest.mark.parametrize("budget", [1, 20, deletion.BUDGET])
def test_to_remove_frames_is_to_see_the_shorter_video(monkeypatch, budget):
    monkeypatch.setattr(deletion, "BUDGET", budget)
    model, (features, positions) = network(), video(12)
    kept = [[0, 3, 5, 11], [1, 2], [4, 5, 6, 7, 8, 9, 10]]
    marks = np.array([np.isin(np.arange(12), frames) for frames in kept])
    found = deletion.probabilities(model, Shown(features, positions, np.arange(12)), marks)
    with torch.no_grad():
        for row, order in zip(found, kept, strict=True):
            alone = model(features[:, order], positions[:, order]).double().softmax(-1)[0]
            assert row == pytest.approx(alone.numpy(), abs=1e-6)


def test_a_seed_gives_the_same_random_removals_and_another_one_others():
    model, (features, positions) = network(), video(20)
    weights, _, _ = attention(model, features, positions)
    one, same, other = (check(model, features, weights, seed=seed) for seed in (1, 1, 2))
    assert (one.random == same.random).all()
    assert not np.allclose(one.random, other.random, atol=1e-9)
    assert (one.highest == other.highest).all()


@pytest.mark.parametrize("at", [0, 7, 39])
def test_weights_on_the_frame_that_the_answer_hangs_on_tell_more_than_chance(at):
    model, features, weights = bright(at)
    found = check(model, features, weights)
    assert found.label == "run" and found.whole > 0.99
    assert found.removed[0] == 1
    assert found.highest == pytest.approx(np.full(10, 0.5)), "gone with the first frame"
    assert found.lowest == pytest.approx(np.full(10, found.whole)), "there to the last frame"
    assert found.area > 0.1 and (found.layer_areas > 0.1).all()
    assert found.telling
    assert found.verdict().startswith("The weights tell more than chance: ")


def test_a_frame_goes_with_all_its_copies():
    model, features, weights = bright(7, frames=10)
    numbers = np.repeat(np.arange(10), [3, 4] * 5)
    found = check(model, features[:, numbers], weights, numbers)
    assert found.frames == 10 and found.removed.tolist() == list(range(1, 10))
    assert found.highest == pytest.approx(np.full(9, 0.5)), "no copy of the first frame stays"
    assert found.random.mean(axis=0) == pytest.approx(0.5 + 0.5 * (1 - found.shares), abs=0.15)


def test_weights_on_the_frames_that_do_not_matter_are_called_what_they_are():
    model, features, weights = bright(7)
    found = check(model, features, 1 - weights)
    assert found.area < -0.1
    assert found.verdict().startswith("The weights tell no more than chance here: ")
    assert "above that of random ones" in found.verdict()


def test_frames_that_are_all_alike_leave_no_difference():
    model, (features, positions) = network(position="none"), video(20, constant=True)
    weights, _, _ = attention(model, features, positions)
    found = check(model, features, weights)
    assert found.area == pytest.approx(0, abs=1e-6)
    assert found.layer_areas == pytest.approx(np.zeros(2), abs=1e-6)
    assert not found.telling


@pytest.mark.parametrize(
    ("highest", "random", "verdict"),
    [
        (0.5, [0.8] * 19 + [0.5], "tell more than chance: on average over all removals P is 0.14 below that"),
        (0.5, [0.8] * 18 + [0.5] * 2, "seem to matter, but that may be chance: .*; 18 of 20 random orders"),
        (0.8, [0.9] * 5 + [0.7] * 15, "tell no more than chance here: .* 0.03 above .*; 5 of 20"),
        (0.9, [0.9] * 20, "No verdict: whichever frames are removed, the answer stays"),
    ],
)
def test_a_verdict_claims_no_more_than_the_removals_show(highest, random, verdict):
    assert re.search(verdict, made_up(highest, random).verdict())


def test_the_sentence_gives_the_numbers_of_a_removal_of_30_percent():
    assert made_up(0.41, [0.7, 0.8, 0.85, 0.77]).sentence() == (
        "Removing the 30% of the frames with the highest weights takes P(run) from 0.90 to 0.41; "
        "as many random frames: 0.78 (0.70 to 0.85 in 4 draws); the lowest weights: 0.88."
    )


@pytest.mark.parametrize(("frames", "removed"), [(3, [1, 2]), (5, [1, 2, 3, 4]), (40, [1, *range(4, 40, 4)])])
def test_shares_become_whole_frames_and_some_always_stay(frames, removed):
    model, (features, positions) = network(), video(frames)
    weights, _, _ = attention(model, features, positions)
    found = check(model, features, weights)
    assert found.removed.tolist() == list(removed)
    assert found.random.shape == (deletion.RANDOM_ORDERS, len(removed))
    assert found.layers.shape == (2, len(removed))


@pytest.mark.parametrize("frames", [1, 2])
def test_one_or_two_frames_are_too_few_to_check(frames):
    model, (features, positions) = network(), video(frames)
    weights, _, _ = attention(model, features, positions)
    assert check(model, features, weights) is None
    numbers = np.repeat(np.arange(frames), 5)
    assert check(model, features[:, numbers], weights, numbers) is None
