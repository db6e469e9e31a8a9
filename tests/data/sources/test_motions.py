"""The embedded data set: a frame tells nothing, the motion everything, and the files repeat exactly."""

import av
import cv2
import numpy as np
import pytest

from vtn.data import annotations
from vtn.data.sources import motions, prepare
from vtn.data.sources.motion_clips import CLASSES, DRIFTS, FRAME_RATES, X, draw_clip, states
from vtn.sections import DatasetConfig, MotionsConfig

TIMES = np.arange(25) / 12
FEW = MotionsConfig(train_clips=20, val_clips=3, test_clips=2, size=32)
MIRRORS = [
    ("move_left", "move_right"),
    ("move_up", "move_down"),
    ("grow", "shrink"),
    ("turn_left", "turn_right"),
]


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def around(difference):
    """A difference of states as the nearer way round the circle."""
    return (difference + 0.5) % 1.0 - 0.5


@pytest.mark.parametrize("label", CLASSES)
def test_every_state_is_uniform_at_every_moment(label):
    draws = np.stack([states(label, TIMES, np.random.default_rng((7, seed))) for seed in range(2000)])
    circle = np.exp(2j * np.pi * draws[:, [0, 12, 24]]).mean(axis=0)  # first, middle and last frame
    assert np.abs(circle).max() < 0.08  # a uniform state exceeds it once in 300,000 draws


@pytest.mark.parametrize(("label", "mirror"), MIRRORS)
def test_a_mirror_class_is_the_reversal(label, mirror):
    forth = states(label, TIMES, np.random.default_rng(3))
    back = states(mirror, TIMES, np.random.default_rng(3))
    np.testing.assert_allclose(around(forth[::-1] - forth[-1]), around(back - back[0]), atol=1e-9)
    assert np.abs(around(np.diff(forth, axis=0))).max() > 0.01


@pytest.mark.parametrize("label", CLASSES)
def test_a_class_moves_its_own_state_only(label):
    track = states(label, TIMES, np.random.default_rng(5))
    moving = np.flatnonzero(np.abs(around(track - track[0])).max(axis=0) > 1e-9)
    assert list(moving) == [DRIFTS[label][0] if label in DRIFTS else X]


def test_swings_differ_in_rate_not_in_reach():
    times = np.arange(0, 8, 0.01)
    tracks = [states(label, times, np.random.default_rng(2))[:, X] for label in ("swing_slow", "swing_fast")]
    steps = [around(np.diff(track)) for track in tracks]
    slow, fast = (np.count_nonzero(np.diff(np.sign(step))) for step in steps)
    assert fast / slow == pytest.approx(2.5, rel=0.2)
    reach = [np.ptp(np.cumsum(step)) for step in steps]
    assert reach[0] == pytest.approx(reach[1], rel=0.01)


def test_the_drawing_follows_the_state():
    """The object's centre of area, on the torus, moves as `move_right` says."""
    frames, fps = draw_clip("move_right", np.random.default_rng(1), 64)
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]).astype(float)
    mask = np.abs(grey - np.median(grey)) > 60
    columns = np.exp(2j * np.pi * np.arange(64) / 64)
    angle = np.unwrap(np.angle((mask.sum(axis=1) * columns).sum(axis=1)))
    speed = np.diff(angle).mean() / (2 * np.pi) * fps
    assert 0.3 * 0.75 < speed < 0.3 * 1.25
    assert np.ptp(mask.sum(axis=(1, 2))) < 0.2 * mask[0].sum()  # wrapping loses nothing of the object


def test_the_same_seed_draws_the_same_clip_and_speeds_differ():
    first, again = (draw_clip("swing_slow", np.random.default_rng(9), 32)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    fast, _ = draw_clip("swing_fast", np.random.default_rng(9), 32)
    assert fast.shape == first.shape and (fast != first).any()


def test_clips_vary_in_length_and_rate():
    clips = [draw_clip("grow", np.random.default_rng(seed), 32) for seed in range(40)]
    assert {fps for _, fps in clips} == set(FRAME_RATES)
    seconds = [len(frames) / fps for frames, fps in clips]
    assert 1.95 < min(seconds) < 2.3 and 2.9 < max(seconds) < 3.25


def test_a_file_decodes_to_what_was_drawn(tmp_path):
    frames, fps = draw_clip("move_up", np.random.default_rng(0), 64)
    (tmp_path / "clip.mp4").write_bytes(motions.encode(frames, fps))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        assert (stream.codec_context.name, stream.average_rate) == ("h264", fps)
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 6


def test_neither_workers_nor_a_killed_run_change_the_files(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    motions.prepare(FEW, alone, seed=4, workers=0)
    motions.prepare(FEW, together, seed=4, workers=2)
    assert files(alone) == files(together)
    for video in list(alone.glob("train/*"))[:5]:
        video.rename(video.with_name(video.name + ".partial"))
    kept = next(alone.glob("train/*.mp4"))
    before = kept.stat().st_mtime_ns
    motions.prepare(FEW, alone, seed=4, workers=0)
    assert files(alone) == files(together)
    assert kept.stat().st_mtime_ns == before


def test_another_recipe_redraws_and_surplus_goes(tmp_path):
    motions.prepare(FEW, tmp_path, seed=4, workers=0)
    first = files(tmp_path)
    (tmp_path / "own.mp4").touch()
    fewer = FEW.model_copy(update={"train_clips": 10})
    motions.prepare(fewer, tmp_path, seed=4, workers=0)
    left = files(tmp_path)
    assert len(first) - len(left) == 10 - 1 and "own.mp4" in left  # what we did not draw stays
    motions.prepare(fewer, tmp_path, seed=5, workers=0)
    redrawn = files(tmp_path)
    assert redrawn.keys() == left.keys()
    assert not any(redrawn[name] == left[name] for name in left if name != "own.mp4")


def test_classes_are_balanced_and_the_table_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = prepare(DatasetConfig(motions=FEW), seed=0, workers=0)
    assert annotations.class_names(frame) == sorted(CLASSES)
    assert set(frame[frame["split"] == "train"]["label"].value_counts()) == {2}
    assert frame["split"].value_counts().to_dict() == {"train": 20, "val": 3, "test": 2}
    assert all((tmp_path / "data/videos" / video).is_file() for video in frame["video"])


def test_too_few_training_clips_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"dataset\.motions\.train_clips: 9 leaves a class without .* 10 or more"
    ):
        motions.prepare(FEW.model_copy(update={"train_clips": 9}), tmp_path, seed=0, workers=0)
