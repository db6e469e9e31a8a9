"""The release's choice of frames, by number: for results that are to be compared with its own.

It takes a video for frames at one constant rate, reads the first 10 s of it as the whole (250 frames at 25 a
second), repeats frames where there are fewer, and gives a frame's number as its position
(github.com/bomri/SlowFast, slowfast/datasets/decoder.py, commit 00a6820). `vtn.data.sampling` goes by time.
"""

import numpy as np
import torch
from numpy.typing import NDArray

RATE = 25.0
# WebM rounds presentation times to milliseconds.
ROUNDING_SECONDS = 1e-3


def whole_video(total: int, fps: float, *, frames: int = 250, rate: float = RATE) -> NDArray[np.int64]:
    """Numbers of `frames` frames at `rate` a second from the start of a video of `total` frames; (frames,)."""
    end = min(frames * fps / rate - 1, total)
    # In torch's float32, as the release: numpy's float64 falls on another frame in one video of a hundred.
    numbers: NDArray[np.int64] = torch.linspace(0, end, frames).clamp(0, total - 1).long().numpy()
    return numbers


def frame_rate(times: NDArray[np.floating]) -> float:
    """Frames a second of a video whose frames are shown at `times` (F,), seconds from the first.

    The average: F - 1 intervals over the last time. Where rounded times hide it, the whole number, or the
    1000/1001 of one (NTSC), that explains the last time. A single frame counts as `RATE`: nothing depends on it.
    """
    if len(times) < 2:
        return RATE
    intervals, last = len(times) - 1, float(times[-1])
    whole = max(round(intervals / last), 1), max(round(intervals / last * 1.001), 1) / 1.001
    nearest = min(whole, key=lambda rate: abs(intervals / rate - last))
    explains = abs(intervals / nearest - last) <= ROUNDING_SECONDS
    return float(nearest) if explains else intervals / last
