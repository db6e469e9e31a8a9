"""How much the frame store adds to bare JPEG decoding: `python benchmarks/read_frames.py`.

Reads 16 random frames of a video through FrameStore and, in turn with it, decodes the same JPEG bytes held in
memory. Prints medians in milliseconds and the median of the paired ratios; the goal is at most 1.3. A cold
index is met once a shard and process.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
import pandas as pd
import simplejpeg
from numpy.typing import NDArray

from vtn.data.frame_store import FrameStore
from vtn.data.packing import pack
from vtn.data.shard import Shard
from vtn.sections import DecodeConfig

SIZES = ((128, 172), (256, 340))
VIDEOS, FRAMES, CLIP, REPEATS = 4, 100, 16, 60


def main() -> None:
    """Measure each size on a store drawn for it in a temporary directory."""
    for height, width in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            directory = draw_store(Path(folder), height, width)
            for name, reopen in (("cold index", True), ("warm index", False)):
                print(f"{width}x{height} {name}: {compare(directory, reopen=reopen)}")


def draw_store(folder: Path, height: int, width: int) -> Path:
    """A store of a few hundred frames: moving gradients under noise, as hard to compress as real pictures."""
    rng = np.random.default_rng(0)
    names = [f"{number}.mp4" for number in range(VIDEOS)]
    for name in names:
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.bit_rate = 20_000_000
            for number in range(FRAMES):
                rows, columns = np.mgrid[:height, :width]
                ramps = np.stack([rows + number, columns, rows + columns], axis=-1) % 256
                noise = rng.normal(0, 12, ramps.shape)
                pixels = np.clip(ramps + noise, 0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    table = pd.DataFrame({"video": names, "label": "drawn", "split": "train", "group": ""})
    config = DecodeConfig(short_side=height, max_fps=None, shards=1)
    pack(table, folder, folder / "frames", decode=config, workers=0)
    return folder / "frames"


def compare(directory: Path, *, reopen: bool) -> str:
    """Read and decode by turns; `reopen` gives every read a shard whose index is not yet loaded."""
    rng = np.random.default_rng(1)
    store, shard = FrameStore.open(directory), Shard.open(directory, 0)
    rows = shard.header.rows()
    read_ms: list[float] = []
    bare_ms: list[float] = []
    for _ in range(REPEATS):
        video = f"{rng.integers(VIDEOS)}.mp4"
        indices = rng.choice(FRAMES, CLIP, replace=False)
        jpegs = [shard.jpeg(rows[video][0] + index).tobytes() for index in indices]
        store = FrameStore.open(directory) if reopen else store
        turns: list[tuple[list[float], Callable[[], object]]] = [
            (read_ms, partial(store.read, video, indices)),
            (bare_ms, partial(decode_all, jpegs)),
        ]
        for times, action in turns if rng.random() < 0.5 else reversed(turns):
            start = time.perf_counter()
            action()
            times.append((time.perf_counter() - start) * 1000)
    ratio = statistics.median(read / bare for read, bare in zip(read_ms, bare_ms, strict=True))
    read, bare = statistics.median(read_ms), statistics.median(bare_ms)
    return f"store {read:.2f} ms, bare decoding {bare:.2f} ms, ratio {ratio:.2f}"


def decode_all(jpegs: list[bytes]) -> list[NDArray[np.uint8]]:
    """The bare work: nothing but decoding."""
    return [simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs]


if __name__ == "__main__":
    main()
