"""The embedded data set: a frame tells nothing, the motion everything, and the files repeat exactly."""

import av
import numpy as np
import pytest

from vtn.data import annotations
from vtn.data.sources import motions, prepare
from vtn.data.sources.motion_clips import (
    AMPLITUDE,
    ANGLE,
    CLASSES,
    DIM,
    DRIFT,
    DRIFTS,
    FRAME_RATES,
    MARGIN,
    PACE_JITTER,
    SECONDS,
    SWINGS,
    X,
    draw_clip,
    light,
    states,
)
from vtn.sections import DatasetConfig, MotionsConfig

TIMES = np.arange(25) / 12
LONGEST = np.arange(round(SECONDS[1] * 24)) / 24
FEW = MotionsConfig(train_clips=18, val_clips=3, test_clips=2, size=32)
MIRRORS = [("move_left", "move_right"), ("move_up", "move_down"), ("grow", "shrink")]


class Fastest:
    """A generator whose draws are all at their upper end, or with `start` 0 the starts at their lower."""

    def __init__(self, start):
        self.start = start

    def random(self, size=None):
        return self.start if size is None else np.full(size, self.start)

    def uniform(self, low, high):
        return high

    def choice(self, options):
        return options[-1]


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def around(difference):
    """A difference of angles as the nearer way round the circle."""
    return (difference + 0.5) % 1.0 - 0.5


def steps(label, seed, times=TIMES):
    """(F - 1, 4) changes of state from frame to frame."""
    track = np.diff(states(label, times, np.random.default_rng(seed)), axis=0)
    track[:, ANGLE] = around(track[:, ANGLE])
    return track


@pytest.mark.parametrize(("label", "mirror"), MIRRORS)
def test_a_mirror_class_is_the_reversal(label, mirror):
    forth, back = (states(name, TIMES, np.random.default_rng(3)) for name in (label, mirror))
    np.testing.assert_allclose(forth[::-1], back, atol=1e-9)
    assert np.abs(steps(label, 3)).max() > 0.01


@pytest.mark.parametrize("moment", ["middle", "random"])
@pytest.mark.parametrize(("label", "mirror"), MIRRORS)
def test_a_frame_does_not_tell_mirror_classes_apart(label, mirror, moment):
    samples = []
    for number, name in enumerate((label, mirror)):
        rng = np.random.default_rng((11, number))
        tracks = np.stack([states(name, TIMES, rng) for _ in range(2000)])
        frames = np.full(2000, 12) if moment == "middle" else rng.integers(25, size=2000)
        state = tracks[np.arange(2000), frames]
        samples.append(np.concatenate([state, state**2, np.cos(2 * np.pi * state)], axis=1))
    means = [sample.mean(axis=0) for sample in samples]
    spread = np.sqrt(sum(sample.var(axis=0) for sample in samples) / 2000)
    assert (np.abs(means[0] - means[1]) < 4.5 * spread).all()


@pytest.mark.parametrize("label", CLASSES)
def test_a_class_moves_its_own_state_only(label):
    moving = np.flatnonzero(np.abs(steps(label, 5)).max(axis=0) > 1e-9)
    own = {**{name: state for name, (state, _) in DRIFTS.items()}, "turn": ANGLE}
    assert list(moving) == [own.get(label, X)]


@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize("label", CLASSES)
def test_the_longest_clip_at_the_fastest_pace_stays_in_the_picture(label, start):
    track = states(label, LONGEST, Fastest(start))
    assert track.min() >= -1e-9 and track.max() <= 1 + 1e-9


def test_a_turn_goes_in_either_direction():
    signs = {np.sign(steps("turn", seed)[0, ANGLE]) for seed in range(20)}
    assert signs == {-1, 1}
    turned = steps("turn", 0)[:, ANGLE]
    np.testing.assert_allclose(turned, turned[0])  # through the whole circle without a jump


def test_swings_differ_in_rate_not_in_reach():
    tracks = [states(label, np.arange(0, 8, 0.01), np.random.default_rng(2))[:, X] for label in SWINGS]
    slow, fast = (np.count_nonzero(np.diff(np.sign(np.diff(track)))) for track in tracks)
    assert fast / slow == pytest.approx(SWINGS["swing_fast"] / SWINGS["swing_slow"], rel=0.2)
    assert [np.ptp(track) for track in tracks] == pytest.approx([2 * AMPLITUDE] * 2, rel=0.01)


def test_swings_of_any_pace_stay_apart_and_below_half_the_default_frame_rate():
    slow, fast = (np.array([1 - PACE_JITTER, 1 + PACE_JITTER]) * rate for rate in SWINGS.values())
    assert slow[1] < fast[0] / 2 and fast[1] < 2


def centres(label, seed, size=64):
    """Where the bright part of the object lies in each frame, (F, 2) shares of the side, and the fps."""
    frames, fps = draw_clip(label, np.random.default_rng(seed), size)
    bright = frames[..., 2] > 110  # blue: no lamp dims it
    down, across = np.mgrid[:size, :size]
    return np.stack([[across[one].mean(), down[one].mean()] for one in bright]) / size, fps


@pytest.mark.parametrize(("label", "way"), [("move_right", (1, 0)), ("move_up", (0, -1))])
def test_the_drawing_follows_the_state(label, way):
    track, fps = centres(label, 1)
    speed = np.diff(track, axis=0).mean(axis=0) * fps / ((1 - 2 * MARGIN) * DRIFT)
    along, across = speed @ np.array(way), speed @ np.array(way[::-1])
    assert 1 - PACE_JITTER - 0.1 < along < 1 + PACE_JITTER + 0.1
    assert abs(across) < 0.1


def test_a_growing_object_covers_more():
    frames, _ = draw_clip("grow", np.random.default_rng(1), 64)
    covered = (frames[..., 2] > 110).sum(axis=(1, 2))
    assert covered[-1] > 1.2 * covered[0]


def test_lamps_tell_right_from_left_and_bottom_from_top():
    red, green, blue = np.moveaxis(light(8), -1, 0)
    assert (np.diff(red, axis=1) > 0).all() and (np.diff(red, axis=0) == 0).all()
    assert (np.diff(green, axis=0) > 0).all() and (np.diff(green, axis=1) == 0).all()
    assert (blue == 1).all() and red.min() == pytest.approx(DIM)


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
    fewer = FEW.model_copy(update={"train_clips": 9})
    motions.prepare(fewer, tmp_path, seed=4, workers=0)
    left = files(tmp_path)
    assert len(first) - len(left) == 9 - 1 and "own.mp4" in left  # what we did not draw stays
    motions.prepare(fewer, tmp_path, seed=5, workers=0)
    redrawn = files(tmp_path)
    assert redrawn.keys() == left.keys()
    assert not any(redrawn[name] == left[name] for name in left if name != "own.mp4")


def test_classes_are_balanced_and_the_table_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = prepare(DatasetConfig(motions=FEW), seed=0, workers=0)
    assert annotations.class_names(frame) == sorted(CLASSES)
    assert set(frame[frame["split"] == "train"]["label"].value_counts()) == {2}
    assert frame["split"].value_counts().to_dict() == {"train": 18, "val": 3, "test": 2}
    assert all((tmp_path / "data/videos" / video).is_file() for video in frame["video"])


def test_too_few_training_clips_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"dataset\.motions\.train_clips: 8 leaves a class without .* 9 or more"
    ):
        motions.prepare(FEW.model_copy(update={"train_clips": 8}), tmp_path, seed=0, workers=0)
