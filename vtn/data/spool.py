"""The frames of one video while it is looked at: coded as in the frame store, on disk where they are many."""

import tempfile
from collections.abc import Sequence
from typing import Self

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from vtn.data import sampling
from vtn.data.resizing import resize, stored_size
from vtn.sections import DecodeConfig

# Up to so many bytes stay in memory, which is every short video; hours go to the folder for temporary files.
IN_MEMORY = 64 * 2**20


class Spool:
    """Frames that can be read in any order while the spool is open; memory does not grow with their number."""

    def __init__(self, decode: DecodeConfig) -> None:
        self._decode = decode
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  (closed by __exit__)
        self._size: tuple[int, int] | None = None
        self._starts = [0]
        self._times: list[float] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._times)

    @property
    def times(self) -> sampling.Times:
        """Seconds from the first frame, (F,)."""
        return np.array(self._times)

    def append(self, seconds: float, frame: NDArray[np.uint8]) -> None:
        """Resize and code one RGB frame (H, W, 3); all get the size of the first."""
        self._size = self._size or stored_size(*frame.shape[:2], short_side=self._decode.short_side)
        coded = simplejpeg.encode_jpeg(
            resize(frame, self._size), quality=self._decode.quality, colorsubsampling="420"
        )
        self._file.seek(self._starts[-1])
        self._file.write(coded)
        self._starts.append(self._starts[-1] + len(coded))
        self._times.append(seconds)

    def read(self, indices: Sequence[int] | sampling.Indices) -> NDArray[np.uint8]:
        """The frames at `indices`, (T, H, W, C) uint8."""
        return np.stack([simplejpeg.decode_jpeg(self._coded(int(index))) for index in indices])

    def _coded(self, index: int) -> bytes:
        self._file.seek(self._starts[index])
        return self._file.read(self._starts[index + 1] - self._starts[index])
