import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from drawn_videos import annotations, picture, write_video

from vtn.data import manifest
from vtn.data.decoding import decode
from vtn.data.frame_store import FrameStore
from vtn.data.packing import pack
from vtn.sections import DecodeConfig


def make(folder: Path, store: Path, *names: str, quality: int = 95) -> FrameStore:
    config = DecodeConfig(short_side=48, max_fps=25.0, shards=2, quality=quality, max_rejected=0.5)
    pack(annotations(*names), folder, store, decode=config, workers=0)
    return FrameStore.open(store)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("a.mp4", "b.mp4", "c d.mp4")):
        write_video(folder / name, frames=10 + number, fps=25, shade=5 * number)
    return folder


@pytest.fixture
def store(folder, tmp_path) -> FrameStore:
    return make(folder, tmp_path / "frames", "a.mp4", "b.mp4", "c d.mp4", "absent.mp4")


def test_frames_are_those_of_the_video_in_the_order_asked(store):
    frames = store.read("b.mp4", [9, 0, 4, 4])
    assert frames.shape == (4, 48, 64, 3) and frames.dtype == np.uint8
    for frame, number in zip(frames, (9, 0, 4, 4), strict=True):
        assert np.abs(frame.astype(int) - picture(number + 5)).mean() < 8
    assert np.array_equal(frames[2], frames[3])


def test_every_video_keeps_its_own_frames_and_times(store, folder):
    for video in ("a.mp4", "b.mp4", "c d.mp4"):
        decoded = list(decode(folder / video))
        assert np.array_equal(store.times(video), [seconds for seconds, _ in decoded])
        frames = store.read(video, range(len(decoded)))
        for stored, (_, frame) in zip(frames, decoded, strict=True):
            assert np.abs(stored.astype(int) - frame).mean() < 4


def test_an_index_outside_the_video_never_wraps(store):
    for indices in ([-1], [10], []):
        with pytest.raises(IndexError, match=r"a\.mp4 has frames 0 to 9"):
            store.read("a.mp4", indices)


def test_a_rejected_and_an_unknown_video_are_refused_with_the_reason(store):
    with pytest.raises(ValueError, match=r"absent\.mp4 has no frames .* missing file"):
        store.times("absent.mp4")
    with pytest.raises(ValueError, match=r"new\.mp4 is not in the frame store"):
        store.read("new.mp4", [0])


def _mean(store: FrameStore) -> float:
    return float(store.read("a.mp4", [3]).mean())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_open_store_goes_into_worker_processes(store, method):
    mean = _mean(store)
    with multiprocessing.get_context(method).Pool(2) as workers:
        assert workers.map(_mean, [store, store]) == [mean, mean]


def test_a_pickled_store_carries_no_frames(store):
    before = len(pickle.dumps(store))
    store.read("a.mp4", [0])
    assert len(pickle.dumps(store)) == before
    assert np.array_equal(pickle.loads(pickle.dumps(store)).times("a.mp4"), store.times("a.mp4"))


def test_equal_content_has_an_equal_fingerprint_and_other_content_another(folder, tmp_path):
    first = make(folder, tmp_path / "1", "a.mp4", "b.mp4")
    again = make(folder, tmp_path / "2", "b.mp4", "a.mp4")
    coarse = make(folder, tmp_path / "3", "a.mp4", "b.mp4", quality=60)
    fewer = make(folder, tmp_path / "4", "a.mp4")
    assert first.fingerprint == again.fingerprint
    assert len({first.fingerprint, coarse.fingerprint, fewer.fingerprint}) == 3


def test_a_store_that_is_not_there_names_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere not found: run `dvc repro decode`"):
        FrameStore.open(tmp_path / "nowhere")


def test_a_store_without_its_last_file_is_refused(store):
    (store.directory / "store.json").unlink()
    with pytest.raises(ValueError, match="is not whole"):
        FrameStore.open(store.directory)


def test_a_missing_shard_is_refused_on_opening(store):
    (store.directory / "shard-001.bin").unlink()
    with pytest.raises(ValueError, match=r"lacks shard-001\.bin"):
        FrameStore.open(store.directory)


def test_another_layout_is_refused(store):
    path = store.directory / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layout": 99}))
    with pytest.raises(ValueError, match="layout 99, this version reads 1"):
        FrameStore.open(store.directory)


def test_a_shortened_shard_is_refused_on_reading(store):
    for path in store.directory.glob("*.bin"):
        path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"shard-00\d\.bin has \d+ bytes, not \d+"):
        FrameStore.open(store.directory).read("a.mp4", [0])


@pytest.mark.parametrize("column", ["video", "seconds", "offset"])
def test_an_index_without_a_column_is_refused_on_reading(store, column):
    for path in store.directory.glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns([column]), path)
    with pytest.raises(ValueError, match=f"lacks the column {column}"):
        FrameStore.open(store.directory).times("a.mp4")


def test_a_manifest_without_a_column_is_refused(store):
    path = store.directory / "manifest.csv"
    manifest.read(path).drop(columns="reason").to_csv(path, index=False)
    with pytest.raises(ValueError, match="lacks the column reason"):
        FrameStore.open(store.directory)
