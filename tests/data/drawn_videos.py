"""Small real video files for the tests of this folder."""

from pathlib import Path

import av
import numpy as np
import pandas as pd
from numpy.typing import NDArray


def picture(number: int, *, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A gradient with a bar that moves with `number`, (H, W, 3)."""
    rows, columns = np.mgrid[:height, :width]
    frame = np.stack([rows * 4, columns * 3, np.full_like(rows, 90)], axis=-1).astype(np.uint8)
    frame[:, (number * 3) % width : (number * 3) % width + 6] = 255
    return frame


def write_video(path: Path, *, frames: int = 20, fps: int = 25, shade: int = 0, **size: int) -> Path:
    """Write an H.264 file of `frames` pictures; `shade` tells two files apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        first = picture(0, **size)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for number in range(frames):
            pixels = picture(number + shade, **size)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def annotations(*videos: str) -> pd.DataFrame:
    """Rows of the annotations table, all of one class."""
    return pd.DataFrame({"video": videos, "label": "wave", "split": "train", "group": ""}, dtype="str")
