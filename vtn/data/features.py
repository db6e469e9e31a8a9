"""Backbone features of every stored frame, computed once and found again by content.

A cache directory is named by the hash of what its numbers depend on: backbone, preprocessing,
device and frame store. Each shard of it (`shard-000.npy`, (frames, D) float32) is renamed
into place when whole, so that an interrupted computation goes on where it stopped. The caches
that were used last stay, older ones are removed.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm import tqdm

from vtn.data.clips import Source, square_crop
from vtn.data.sampling import Indices, Times

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(M, C, H, W) uint8 frames 0-255 -> (M, D) features."""

VIDEOS_PER_SHARD = 256
FRAMES_PER_PASS = 256
KEPT_CACHES = 4


class FeatureStore:
    """Reads like the frame store, but gives features (T, D) float32."""

    def __init__(self, frames: Source, shards: Sequence[Path], videos: Sequence[str]) -> None:
        self._frames = frames
        self._shards = [np.load(path, mmap_mode="r") for path in shards]
        self._where: dict[str, tuple[int, int]] = {}
        for number, group in enumerate(_groups(videos)):
            start = 0
            for video in group:
                self._where[video] = (number, start)
                start += len(frames.times(video))

    def times(self, video: str) -> Times:
        """Seconds from the first frame; (F,)."""
        return self._frames.times(video)

    def read(self, video: str, indices: Sequence[int] | Indices) -> NDArray[np.generic]:
        """Features of the frames at `indices`; (T, D) float32."""
        shard, start = self._where[video]
        features: NDArray[np.generic] = self._shards[shard][start + np.asarray(indices)]
        return features


def cached_features(
    frames: Source,
    videos: Sequence[str],
    encode: Encode,
    *,
    crop: int,
    identity: Mapping[str, Any],
    directory: Path,
) -> FeatureStore:
    """The features of all frames of `videos`, read from `directory` or computed into it.

    `identity` names, as JSON or by hash, all that the features depend on besides `crop` and the videos.
    """
    described = json.dumps({"crop": crop, "videos": list(videos), **identity}, sort_keys=True)
    cache = directory / hashlib.sha256(described.encode()).hexdigest()[:16]
    directory.mkdir(parents=True, exist_ok=True)
    groups = _groups(videos)
    paths = [cache / f"shard-{number:03d}.npy" for number in range(len(groups))]
    with _lock(cache):  # several workers of a sweep begin with the same features
        cache.mkdir(exist_ok=True)
        missing = [
            (path, group)
            for path, group in zip(paths, groups, strict=True)
            if not _is_whole(path, group, frames)
        ]
        if missing:
            _compute(frames, missing, encode, crop)
        os.utime(cache)
        store = FeatureStore(frames, paths, videos)
    _remove_old(directory)
    return store


def _remove_old(directory: Path) -> None:
    """Remove all caches but those used last; a process that has opened one goes on reading its memory maps."""
    with FileLock(directory / "removing.lock"):
        caches = [path for path in directory.iterdir() if path.is_dir()]
        for old in sorted(caches, key=lambda path: path.stat().st_mtime_ns)[:-KEPT_CACHES]:
            with contextlib.suppress(Timeout), _lock(old).acquire(timeout=0):  # else it is being computed
                shutil.rmtree(old)


def _lock(cache: Path) -> FileLock:
    """Beside the cache rather than in it, so that whoever waits for it outlives the removal."""
    return FileLock(cache.with_suffix(".lock"))


def _compute(
    frames: Source, missing: Sequence[tuple[Path, Sequence[str]]], encode: Encode, crop: int
) -> None:
    total = sum(len(group) for _, group in missing)
    with tqdm(total=total, desc="features", unit="video", disable=None) as bar:
        for path, group in missing:
            features = [_encode_video(frames, video, encode, crop, bar) for video in group]
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.save(file, np.concatenate(features))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)


def _is_whole(path: Path, videos: Sequence[str], frames: Source) -> bool:
    """Whether a shard is there with a row for every frame; a damaged one is said and computed again."""
    if not path.exists():
        return False
    try:
        rows = len(np.load(path, mmap_mode="r"))
    except (ValueError, EOFError, OSError):
        rows = -1
    whole = rows == sum(len(frames.times(video)) for video in videos)
    if not whole:
        print(f"{path} is damaged: computing these features again")
    return whole


def _groups(videos: Sequence[str]) -> list[Sequence[str]]:
    return [videos[start : start + VIDEOS_PER_SHARD] for start in range(0, len(videos), VIDEOS_PER_SHARD)]


def _encode_video(
    frames: Source, video: str, encode: Encode, crop: int, bar: "tqdm[Any]"
) -> NDArray[np.float32]:
    count = len(frames.times(video))
    passes = []
    for start in range(0, count, FRAMES_PER_PASS):
        indices = np.arange(start, min(start + FRAMES_PER_PASS, count))
        pixels = square_crop(frames.read(video, indices), crop=crop, at=0.5)
        passes.append(encode(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))))  # (M, C, H, W)
    bar.update()
    return np.concatenate(passes)
