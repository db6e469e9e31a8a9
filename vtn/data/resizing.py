"""The size at which frames are stored."""

import cv2
import numpy as np
from numpy.typing import NDArray

# A strip narrower than this is squeezed: crops look at its middle, and its length must not fill the memory.
MAX_ASPECT = 4


def stored_size(height: int, width: int, *, short_side: int) -> tuple[int, int]:
    """(height, width) with the short side exactly `short_side` pixels, so that every crop fits."""
    scale = short_side / min(height, width)
    longest = MAX_ASPECT * short_side
    return tuple(min(longest, round(side * scale)) for side in (height, width))  # type: ignore[return-value]


def resize(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale an RGB frame (H, W, 3) to `size` (height, width): by area down, linearly up."""
    height, width = size
    if frame.shape[:2] == size:
        return frame
    shrinks = height * width < frame.shape[0] * frame.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (width, height), interpolation=method), dtype=np.uint8)
