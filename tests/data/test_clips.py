import numpy as np
import pytest
import torch

from vtn.data.clips import (
    EpochSampler,
    EvaluationClips,
    Labelled,
    TrainingClips,
    collate,
    loader,
    multi_views,
    random_crop,
    square_crop,
    whole_video_views,
)
from vtn.data.sampling import WholeVideo
from vtn.sections import AugmentConfig, ClipConfig, ViewsConfig

CLIP = ClipConfig(frames=4, seconds=1.0, crop=16, position_rate=25)
PLAIN = AugmentConfig()
READING = WholeVideo(rate=5, max_frames=250, position_rate=25)
LABELLED = Labelled(("long", "short"), (1, 0))
LENGTHS = {"long": 100, "short": 10}


class Frames:
    """Videos at 25 fps whose pixels are (row, column, frame number); `short` lasts 0.4 s, `long` 4 s."""

    def __init__(self, height=16, width=24):
        self.rows, self.columns = np.mgrid[:height, :width]

    def times(self, video):
        return np.arange(LENGTHS[video]) / 25

    def read(self, video, indices):
        shape = self.rows.shape
        frames = [np.stack([self.rows, self.columns, np.full(shape, i)], axis=-1) for i in indices]
        return np.array(frames, dtype=np.uint8)


class Features(Frames):
    def read(self, video, indices):
        return np.array([[index, 0.5] for index in indices], dtype=np.float32)


def training(source=None, *, augment=PLAIN, seed=0, clip=CLIP):
    return TrainingClips(source or Frames(), LABELLED, clip=clip, augment=augment, seed=seed)


def evaluation(views, source=None):
    return EvaluationClips(source or Frames(), LABELLED, views, clip=CLIP)


def frame_numbers(sample):
    return sample.inputs[:, 2, 0, 0].tolist()


def test_a_training_clip_is_frames_channels_first_with_the_times_they_were_shown():
    sample = training()[3, 0]
    assert (sample.inputs.shape, sample.inputs.dtype) == ((4, 3, 16, 16), torch.uint8)
    assert sample.positions.tolist() == frame_numbers(sample)  # 25 positions a second, 25 frames a second
    assert (sample.label, sample.video) == (1, "long")


def test_a_training_clip_depends_on_seed_epoch_and_index_alone():
    augment = AugmentConfig(horizontal_flip=0.5)
    clips = training(augment=augment)
    clips[0, 1]
    for item in [(0, 0), (5, 1)]:
        again = training(augment=augment)[item]
        assert torch.equal(clips[item].inputs, again.inputs)
        assert torch.equal(clips[item].positions, again.positions)
    changed = [clips[1, 0], training(augment=augment, seed=1)[0, 0]]
    assert all(not torch.equal(clips[0, 0].inputs, other.inputs) for other in changed)


def test_features_are_cut_in_time_only():
    sample = training(Features())[0, 0]
    assert (sample.inputs.shape, sample.inputs.dtype) == ((4, 2), torch.float32)
    assert sample.positions.tolist() == sample.inputs[:, 0].int().tolist()


def test_the_same_frames_are_drawn_from_features_as_from_frames():
    for epoch in range(5):
        assert torch.equal(training()[epoch, 0].positions, training(Features())[epoch, 0].positions)


def test_a_batch_pads_shorter_clips_at_the_end_and_masks_the_padding():
    clips = training()
    batch = collate([clips[0, 1], clips[0, 0]])
    short = len(clips[0, 1].positions)
    assert short < 4
    assert batch.mask.tolist() == [[True] * short + [False] * (4 - short), [True] * 4]
    assert batch.inputs[0, short:].abs().max() == 0
    assert torch.equal(batch.inputs[1], clips[0, 0].inputs)
    assert (batch.inputs.shape, batch.positions.shape) == ((2, 4, 3, 16, 16), (2, 4))
    assert (batch.labels.tolist(), batch.videos) == ([0, 1], ("short", "long"))
    assert batch.to(torch.device("cpu")).videos == batch.videos


def test_square_crop_slides_along_the_longer_side_and_centres_the_other():
    wide, tall = Frames(20, 30).read("long", [0]), Frames(30, 20).read("long", [0])
    for at, first in [(0.0, 0), (0.5, 7), (1.0, 14)]:
        crop = square_crop(wide, crop=16, at=at)
        assert crop.shape == (1, 16, 16, 3)
        assert crop[0, 0, 0, :2].tolist() == [2, first]
        assert square_crop(tall, crop=16, at=at)[0, 0, 0, :2].tolist() == [first, 2]


def test_a_plain_random_crop_is_a_region_of_the_frames_anywhere_in_them():
    frames = Frames(18, 24).read("long", [0, 1])
    corners = set()
    for seed in range(200):
        crop = random_crop(frames, crop=16, augment=PLAIN, rng=np.random.default_rng(seed))
        top, left = crop[0, 0, 0, :2].tolist()
        assert np.array_equal(crop, frames[:, top : top + 16, left : left + 16])
        corners.add((top, left))
    assert len(corners) == 3 * 9


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_a_flip_mirrors_all_frames_of_the_clip(chance):
    frames = Frames(16, 16).read("long", [0, 1, 2])
    augment = AugmentConfig(horizontal_flip=chance)
    crop = random_crop(frames, crop=16, augment=augment, rng=np.random.default_rng(0))
    assert np.array_equal(crop, frames[:, :, ::-1] if chance else frames)


@pytest.mark.parametrize("scale", [0.05, 0.5, 1.25, 1.5])
def test_a_scaled_region_comes_out_at_the_crop_size(scale):
    frames = Frames(24, 24).read("long", [3, 4])
    augment = AugmentConfig(min_scale=scale, max_scale=scale)
    crop = random_crop(frames, crop=16, augment=augment, rng=np.random.default_rng(0))
    assert (crop.shape, crop.dtype) == ((2, 16, 16, 3), np.uint8)
    assert crop[0, :, :, 2].tolist() == np.full((16, 16), 3).tolist()
    rows = float(crop[0, -1, 0, 0]) - float(crop[0, 0, 0, 0])
    assert rows == pytest.approx(15 * scale, abs=1.5)


def test_whole_video_views_hold_each_video_once_in_order():
    clips = evaluation(whole_video_views(Frames(), LABELLED, READING))
    assert [clips[item].video for item in range(len(clips))] == ["long", "short"]
    assert frame_numbers(clips[0]) == list(range(0, 100, 5))
    assert clips[0].inputs[0, :2, 0, 0].tolist() == [0, 4]  # the middle of 24 columns


def test_shuffled_views_change_the_frames_and_keep_the_positions():
    def sample(seed):
        views = whole_video_views(Frames(), LABELLED, READING, shuffle_seed=seed)
        return evaluation(views)[0]

    plain, shuffled = sample(None), sample(0)
    assert frame_numbers(shuffled) != frame_numbers(plain)
    assert sorted(frame_numbers(shuffled)) == frame_numbers(plain)
    assert torch.equal(shuffled.positions, plain.positions)
    assert torch.equal(shuffled.inputs, sample(0).inputs)
    assert not torch.equal(shuffled.inputs, sample(1).inputs)


@pytest.mark.parametrize("source", [Frames(), Features()], ids=["frames", "features"])
def test_reference_views_repeat_the_frames_of_short_videos_and_carry_their_numbers(source):
    reading = WholeVideo(rate=25, max_frames=25, position_rate=1, sampling="reference")
    clips = evaluation(whole_video_views(source, LABELLED, reading), source)
    long, short = clips[0], clips[1]
    assert long.positions.tolist() == list(range(25))  # the first second
    assert len(short.positions) == len(short.inputs) == 25
    assert short.positions.tolist() == sorted(short.positions.tolist())
    assert set(short.positions.tolist()) == set(range(10))
    seen = short.inputs[:, 0] if short.inputs.ndim == 2 else short.inputs[:, 2, 0, 0]
    assert seen.tolist() == short.positions.tolist()


def test_multi_views_are_clips_along_time_by_crops_along_the_longer_side():
    views = multi_views(Frames(), LABELLED, clip=CLIP, views=ViewsConfig(clips=2, crops=3))
    assert [view.index for view in views] == [0] * 6 + [1] * 6
    corners = [evaluation(views)[item].inputs[0, 1:, 0, 0].tolist() for item in range(6)]
    assert corners == [[0, 0], [4, 0], [8, 0], [0, 75], [4, 75], [8, 75]]
    single = multi_views(Frames(), LABELLED, clip=CLIP, views=ViewsConfig(clips=1, crops=1))
    assert [view.crop_at for view in single] == [0.5, 0.5]


def test_an_epoch_s_order_is_known_from_seed_and_epoch():
    sampler = EpochSampler(10, seed=0)
    first = list(sampler)
    assert first == list(EpochSampler(10, seed=0))
    assert sorted(index for _, index in first) == list(range(10))
    sampler.epoch = 1
    assert {epoch for epoch, _ in sampler} == {1}
    assert [index for _, index in sampler] != [index for _, index in first]


def batches(workers, epochs=2):
    labelled = Labelled(("long", "short") * 3, (1, 0) * 3)
    clips = TrainingClips(Frames(), labelled, clip=CLIP, augment=AugmentConfig(horizontal_flip=0.5), seed=0)
    sampler = EpochSampler(len(clips), seed=0)
    batched = loader(clips, batch_size=4, workers=workers, sampler=sampler)
    found = []
    for sampler.epoch in range(epochs):
        found += list(batched)
    return found


def test_the_number_of_workers_changes_no_batch_and_no_clip_is_left_out():
    alone, helped = batches(0), batches(2)
    assert [len(batch.videos) for batch in alone] == [4, 2, 4, 2]
    assert len(helped) == 4
    for one, other in zip(alone, helped, strict=True):
        assert one.videos == other.videos
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.positions, other.positions)
    assert not torch.equal(alone[0].positions, alone[2].positions)
