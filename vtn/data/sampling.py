"""Which frames of a video a clip holds: pure arithmetic on presentation times.

`times` is always (F,) float seconds from the first frame, ascending. Every function returns
ascending, unique frame indices: a video with fewer frames than asked gives fewer, never repeats.
Only `reference` sampling repeats them, as the release does.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtn.data import reference_sampling
from vtn.sections import Sampling

Times = NDArray[np.floating]
Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class WholeVideo:
    """How all of a video is read: `rate` frames and `position_rate` position ids a second, at most `max_frames`.

    With `reference` sampling: the first max_frames / rate seconds, always `max_frames` frames, and as positions
    their numbers, which needs every frame of the video; see `vtn.data.reference_sampling`.
    """

    rate: float
    max_frames: int
    position_rate: float
    sampling: Sampling = "time"

    def choose(self, times: Times) -> tuple[Indices, Indices]:
        """The indices of the frames and their position ids, both (T,), ascending."""
        if self.sampling == "reference":
            fps = reference_sampling.frame_rate(times)
            numbers = reference_sampling.whole_video(len(times), fps, frames=self.max_frames, rate=self.rate)
            return numbers, numbers
        indices = whole_video(times, rate=self.rate, max_frames=self.max_frames)
        return indices, position_ids(times[indices], rate=self.position_rate)


def random_clip(times: Times, *, frames: int, seconds: float, rng: np.random.Generator) -> Indices:
    """`frames` frames evenly spaced over `seconds`, from a random start; (T,), T <= frames."""
    room = max(_duration(times) - seconds, 0.0)
    # Up to one spacing of freedom, so that a video as short as the clip is not always cut alike.
    start = rng.uniform(0.0, max(room, min(seconds / frames, float(times[-1]))))
    return _nearest(times, start + np.arange(frames) * (seconds / frames))


def even_clips(times: Times, *, frames: int, seconds: float, clips: int) -> list[Indices]:
    """`clips` clips like those of `random_clip`, their starts evenly spread; one clip is the middle one."""
    room = max(_duration(times) - seconds, 0.0)
    starts = np.linspace(0.0, room, clips) if clips > 1 else np.array([room / 2])
    offsets = np.arange(frames) * (seconds / frames)
    return [_nearest(times, start + offsets) for start in starts]


def whole_video(times: Times, *, rate: float, max_frames: int) -> Indices:
    """`rate` frames a second from first to last; above `max_frames`, that many evenly spread."""
    last = float(times[-1])
    wanted = int(np.floor((last + reference_sampling.ROUNDING_SECONDS) * rate)) + 1
    targets = np.arange(wanted) / rate if wanted <= max_frames else np.linspace(0.0, last, max_frames)
    return _nearest(times, targets)


def position_ids(times: Times, *, rate: float) -> Indices:
    """Presentation times as integer positions, `rate` a second; (T,)."""
    ids: Indices = np.rint(times * rate).astype(np.int64)
    return ids


def _duration(times: Times) -> float:
    """Seconds that the frames last, the last one as long as the average."""
    return float(times[-1] * len(times) / (len(times) - 1)) if len(times) > 1 else 0.0


def _nearest(times: Times, targets: Times) -> Indices:
    """The frame shown nearest to each target that lies within the video, each frame once."""
    period = _duration(times) / len(times)
    inside = targets[targets <= times[-1] + period] if len(targets) > 1 else targets
    after = np.searchsorted(times, inside).clip(1, max(len(times) - 1, 1))
    before = after - 1
    if len(times) == 1:
        return np.zeros(1, dtype=np.int64)
    nearer = np.where(inside - times[before] <= times[after] - inside, before, after)
    unique: Indices = np.unique(nearer)
    return unique
