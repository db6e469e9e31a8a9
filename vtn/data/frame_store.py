"""The frame store, reading side: any frames of any video as uint8 pixels, and their times.

manifest.csv                     every annotated video (vtn.data.manifest)
shard-000.bin, shard-000.parquet ...  frames (vtn.data.shard)
store.json                       written last: layout, recipe, number of shards, fingerprint
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import simplejpeg
from numpy.typing import NDArray

from vtn.data import manifest
from vtn.data.shard import LAYOUT, REBUILD, Shard, paths

STORE_FILE, MANIFEST_FILE = "store.json", "manifest.csv"


class FrameStore:
    """Frames by video name. Opens shards when they are first read; may be pickled, and shared by forking."""

    def __init__(self, directory: Path, description: dict[str, Any], rows: pd.DataFrame) -> None:
        self.directory = directory
        self.manifest = rows
        self.fingerprint: str = description["fingerprint"]
        self.recipe: dict[str, Any] = description["recipe"]
        self._shard_of = dict(zip(rows["video"], rows["shard"].tolist(), strict=True))
        # Per open shard its times and offsets, 16 bytes a frame, and the rows of its videos.
        self._open: dict[int, tuple[Shard, dict[str, tuple[int, int]]]] = {}

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open a whole store; raises ValueError, with the remedy, for one that is absent or incomplete."""
        description = _read_description(directory)
        for number in range(description["shards"]):
            for path in paths(directory, number):
                if not path.is_file():
                    raise ValueError(f"frame store {directory} lacks {path.name}: {REBUILD}")
        return cls(directory, description, manifest.read(directory / MANIFEST_FILE))

    def times(self, video: str) -> NDArray[np.float64]:
        """Presentation times of a video's F stored frames, (F,) seconds since the first, ascending."""
        shard, start, stop = self._locate(video)
        return shard.seconds[start:stop]

    def read(self, video: str, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """The frames at `indices` (T,), in that order, as RGB (T, H, W, 3); a repeated one is decoded once.

        Raises IndexError for an index outside 0..F-1.
        """
        shard, start, stop = self._locate(video)
        wanted = [int(index) for index in indices]
        if not wanted or min(wanted) < 0 or max(wanted) >= stop - start:
            raise IndexError(f"{video} has frames 0 to {stop - start - 1}, asked for {wanted}")
        height, width, _, _ = simplejpeg.decode_jpeg_header(shard.jpeg(start + wanted[0]))
        frames = np.empty((len(wanted), height, width, 3), dtype=np.uint8)  # (T, H, W, C)
        done: dict[int, int] = {}
        for place, index in enumerate(wanted):
            if index in done:
                frames[place] = frames[done[index]]
            else:
                simplejpeg.decode_jpeg(shard.jpeg(start + index), buffer=frames[place])
                done[index] = place
        return frames

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memory map would carry the shard's bytes with it.
        return self.__dict__ | {"_open": {}}

    def _locate(self, video: str) -> tuple[Shard, int, int]:
        """The video's shard, its first row there and the row after its last."""
        if video not in self._shard_of:
            raise ValueError(f"{video} is not in the frame store {self.directory}: run `dvc repro decode`")
        number = self._shard_of[video]
        if number not in self._open:
            shard = Shard.open(self.directory, number)
            self._open[number] = shard, shard.header.rows()
        shard, rows = self._open[number]
        start, stop = rows.get(video, (0, 0))
        if start == stop:
            row = self.manifest.set_index("video").loc[video]
            raise ValueError(
                f"{video} has no frames in {self.directory}: {row['status']} ({row['reason']}); "
                "take the videos whose `accepted` is true in the manifest"
            )
        return shard, start, stop


def fingerprint(digests: Sequence[str]) -> str:
    """One hash for the content of all shards, from their digests in order."""
    return sha256("\n".join(digests).encode()).hexdigest()


def _read_description(directory: Path) -> dict[str, Any]:
    path = directory / STORE_FILE
    if not directory.is_dir():
        raise ValueError(f"frame store {directory} not found: run `dvc repro decode`")
    if not path.is_file():
        raise ValueError(f"frame store {directory} is not whole (no {STORE_FILE}): run `dvc repro decode`")
    try:
        description: dict[str, Any] = json.loads(path.read_text())
        layout = description["layout"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged: {REBUILD}") from None
    if layout != LAYOUT:
        raise ValueError(f"{path}: layout {layout}, this version reads {LAYOUT}: {REBUILD}")
    return description
