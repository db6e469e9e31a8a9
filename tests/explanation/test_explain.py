import numpy as np
import pytest
import torch
from small_model import write_checkpoint, write_clip

from vtn.explanation import page
from vtn.explanation.explain import (
    clock,
    evenly_spread,
    explain,
    frame_edges,
    moments,
    percent,
    refuse_without_attention,
)
from vtn.predictor import Predictor
from vtn.sections import TemporalConfig


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "vtn"
    write_checkpoint(directory)
    return Predictor(directory, torch.device("cpu"))


def test_an_explanation_is_of_the_prediction_and_holds_the_frames_it_names(predictor, tmp_path):
    video = write_clip(tmp_path / "clip.mp4", frames=100)
    found = explain(predictor, video, model="small")
    assert found.prediction == predictor.predict(video)
    assert found.video == "clip.mp4" and found.model == "small"
    assert found.weights.shape == (1, 4, 16) and found.itself.shape == (1, 4)
    assert found.deletion.label == found.prediction.labels[0]
    assert found.deletion.whole == pytest.approx(found.prediction.probabilities[0], abs=1e-6)
    assert set(found.pictures) == {*found.strip.tolist(), *found.moments.tolist()}
    assert {picture.shape for picture in found.pictures.values()} == {(32, 32, 3)}


@pytest.mark.parametrize(("frames", "different"), [(40, 40), (1, 1)])
def test_frames_that_the_model_is_shown_again_and_again_count_once(tmp_path, frames, different):
    write_checkpoint(tmp_path / "vtn", max_frames=250, sampling="reference")
    predictor = Predictor(tmp_path / "vtn", torch.device("cpu"))
    found = explain(predictor, write_clip(tmp_path / "clip.mp4", frames=frames), model="small")
    assert found.prediction.frames == 250 and found.seconds.shape == (different,)
    assert (np.diff(found.seconds) > 0).all()
    assert found.weights.sum(axis=-1) + found.itself == pytest.approx(1)
    assert (
        found.prediction.extent == f"250 frames ({different} different) of {found.prediction.seconds:.3g} s"
    )
    assert len(found.moments) <= different
    page.draw(found, path=tmp_path / "page.png")


def test_moments_are_the_highest_weights_that_lie_apart():
    seconds = np.arange(101) / 10  # a twentieth of the video is 0.5 s
    weights = np.zeros(101)
    weights[[10, 11, 14, 16, 60]] = 5, 6, 4, 3, 7
    assert moments(weights, seconds).tolist() == [60, 11, 16]
    assert moments(1 - weights, seconds).size == 6


def test_no_moment_has_less_than_the_average_weight_but_there_is_always_one():
    seconds = np.arange(4.0)
    assert moments(np.array([0.1, 0.4, 0.2, 0.3]), seconds).tolist() == [1, 3]
    assert moments(np.ones(4), seconds).tolist() == [0]
    assert moments(np.ones(1), np.zeros(1)).tolist() == [0]


def test_the_film_strip_spreads_over_time_and_not_over_frames():
    seconds = np.concatenate([np.arange(50) / 50, np.arange(1, 12)])
    assert seconds[evenly_spread(seconds)][2:] == pytest.approx(np.arange(2, 12), abs=0.5)
    assert evenly_spread(np.arange(5) / 8).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spread(np.zeros(1)).tolist() == [0]


def test_stretches_of_time_meet_between_frames():
    assert frame_edges(np.array([0, 1.0, 3])).tolist() == [-0.5, 0.5, 2, 4]
    assert frame_edges(np.array([0.0])).tolist() == [-0.5, 0.5]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"layers": 0},
            "model.temporal.layers: 0 takes the mean of the frames: there is no attention to show",
        ),
        ({"attention": "uniform"}, "model.temporal.attention: uniform weighs every frame alike"),
    ],
)
def test_a_model_without_attention_is_refused(predictor, changes, reason):
    refuse_without_attention(predictor.card)
    temporal = TemporalConfig(**changes)
    model = predictor.card.model.model_copy(update={"temporal": temporal})
    with pytest.raises(ValueError, match=reason):
        refuse_without_attention(predictor.card.model_copy(update={"model": model}))


def test_numbers_are_as_fine_as_they_matter():
    assert [percent(share) for share in (1, 0.2254, 0.05, 0.000333, 1e-9)] == [
        "100%",
        "22.5%",
        "5%",
        "0.0333%",
        "0%",
    ]
    assert [clock(seconds) for seconds in (0, 1.125, 315.25)] == ["0.00 s", "1.12 s", "315 s"]
