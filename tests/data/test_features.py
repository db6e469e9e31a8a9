"""Features are computed once, found again by content, and taken up again shard by shard."""

import multiprocessing
import os

import numpy as np
import pytest

from vtn.data import features
from vtn.data.clips import square_crop
from vtn.data.features import cached_features

VIDEOS = tuple(f"{letter}.mp4" for letter in "abcde")
IDENTITY = {"backbone": "b1", "frames": "f1"}
CROP = 8


class Frames:
    """Random pictures of 12 x 10 pixels; each video has a length of its own."""

    def times(self, video):
        return np.arange(5 + ord(video[0]) % 3) / 8

    def read(self, video, indices):
        pixels = np.random.default_rng(ord(video[0])).integers(256, size=(8, 12, 10, 3), dtype=np.uint8)
        return pixels[np.asarray(indices)]


class Encoder:
    """Mean and deviation of each colour; counts its passes, and may die at one of them."""

    def __init__(self, dies_at=None):
        self.passes, self.dies_at = 0, dies_at

    def __call__(self, frames):
        self.passes += 1
        if self.passes == self.dies_at:
            raise KeyboardInterrupt
        assert frames.shape[1:] == (3, CROP, CROP) and frames.dtype == np.uint8
        numbers = [frames.mean(axis=(2, 3)), frames.std(axis=(2, 3))]
        return np.concatenate(numbers, axis=1).astype(np.float32)


@pytest.fixture(autouse=True)
def two_videos_a_shard(monkeypatch):
    monkeypatch.setattr(features, "VIDEOS_PER_SHARD", 2)


def store(directory, encode, *, videos=VIDEOS, crop=CROP, identity=IDENTITY):
    return cached_features(Frames(), videos, encode, crop=crop, identity=identity, directory=directory)


def assert_right(found):
    for video in VIDEOS:
        everything = np.arange(len(Frames().times(video)))
        for indices in (everything, [3, 0, 3]):
            pixels = square_crop(Frames().read(video, indices), crop=CROP, at=0.5)
            wanted = Encoder()(pixels.transpose(0, 3, 1, 2))
            given = found.read(video, indices)
            assert given.dtype == np.float32
            np.testing.assert_array_equal(given, wanted)
        np.testing.assert_array_equal(found.times(video), Frames().times(video))


def test_cached_features_are_those_of_the_centre_crop(tmp_path):
    assert_right(store(tmp_path, Encoder()))


def test_a_long_video_passes_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "FRAMES_PER_PASS", 3)
    encode = Encoder()
    assert_right(store(tmp_path, encode))
    assert encode.passes > len(VIDEOS)


def test_a_second_call_computes_nothing(tmp_path):
    store(tmp_path, Encoder())
    encode = Encoder()
    assert_right(store(tmp_path, encode))
    assert encode.passes == 0


def compute_at_the_gate(directory, gate, passes):
    features.VIDEOS_PER_SHARD = 2
    encode = Encoder()
    gate.wait(60)
    store(directory, encode)
    passes.put(encode.passes)


def test_processes_that_begin_together_compute_once(tmp_path):
    context = multiprocessing.get_context("fork")
    gate, passes = context.Barrier(2), context.Queue()
    both = [context.Process(target=compute_at_the_gate, args=(tmp_path, gate, passes)) for _ in range(2)]
    for process in both:
        process.start()
    assert sorted(passes.get(timeout=60) for _ in both) == [0, len(VIDEOS)]
    for process in both:
        process.join(60)
    assert_right(store(tmp_path, Encoder()))


@pytest.mark.parametrize("dies_at", range(1, 6))
def test_an_interrupted_computation_goes_on_with_the_shard_where_it_stopped(tmp_path, dies_at):
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path, Encoder(dies_at))
    encode = Encoder()
    assert_right(store(tmp_path, encode))
    assert encode.passes == len(VIDEOS) - (dies_at - 1) // 2 * 2


def test_half_a_shard_never_counts(tmp_path, monkeypatch):
    def full(file, array):
        file.write(b"half")
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", full)
        with pytest.raises(OSError, match="no space"):
            store(tmp_path, Encoder())
    assert_right(store(tmp_path, Encoder()))


@pytest.mark.parametrize(
    "change",
    [
        {"identity": {**IDENTITY, "backbone": "b2"}},
        {"identity": {**IDENTITY, "frames": "f2"}},
        {"videos": VIDEOS[:-1]},
    ],
)
def test_what_the_features_depend_on_has_a_cache_of_its_own(tmp_path, change):
    store(tmp_path, Encoder())
    encode = Encoder()
    store(tmp_path, encode, **change)
    assert encode.passes == len(change.get("videos", VIDEOS))
    again = Encoder()
    store(tmp_path, again)
    assert again.passes == 0  # and the first one is still there


def filled(directory):
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


def test_only_the_caches_used_last_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "KEPT_CACHES", 2)
    names = {}
    for backbone in ("b1", "b2", "b1", "b3"):
        store(tmp_path, Encoder(), identity={**IDENTITY, "backbone": backbone})
        (names[backbone],) = set(filled(tmp_path)) - {names[other] for other in names if other != backbone}
    assert filled(tmp_path) == sorted((names["b1"], names["b3"]))


def test_a_cache_that_is_removed_stays_readable_where_it_is_open(tmp_path, monkeypatch):
    opened = store(tmp_path, Encoder())
    monkeypatch.setattr(features, "KEPT_CACHES", 1)
    store(tmp_path, Encoder(), identity={**IDENTITY, "backbone": "b2"})
    assert len(filled(tmp_path)) == 1
    assert_right(opened)


def test_a_cache_that_is_being_computed_is_not_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "KEPT_CACHES", 1)
    encode = Encoder()

    def encode_while_another_finishes(frames):
        if encode.passes == 3:
            store(tmp_path, Encoder(), identity={**IDENTITY, "backbone": "b2"})
        return encode(frames)

    assert_right(store(tmp_path, encode_while_another_finishes))
    assert encode.passes == len(VIDEOS)


def test_another_crop_is_another_cache(tmp_path):
    first = store(tmp_path, lambda frames: frames.mean(axis=(2, 3)), crop=8)
    second = store(tmp_path, lambda frames: frames.mean(axis=(2, 3)), crop=6)
    assert (first.read("a.mp4", [0]) != second.read("a.mp4", [0])).any()


@pytest.mark.parametrize("size", [0, 100])
def test_a_damaged_shard_is_said_and_computed_again(tmp_path, capsys, size):
    store(tmp_path, Encoder())
    (shard,) = tmp_path.glob("*/shard-000.npy")
    os.truncate(shard, size)
    assert_right(store(tmp_path, Encoder()))
    assert f"{shard} is damaged" in capsys.readouterr().out
