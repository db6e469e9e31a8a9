"""One clip of the data set `motions`: how its object moves, and how the frames are drawn.

Position, angle and the logarithm of size each live on a circle of circumference 1, start anywhere on it
with equal chance, and a class moves one of them. So a state at any one moment is uniform in every class:
a single frame cannot tell the classes apart.
"""

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

X, Y, ANGLE, LOG_SIZE = range(4)

# Speeds are in circumferences a second. At the default 4 sampled frames a second the fastest drift moves
# 0.11 of its circle between frames, far below the half circle at which direction becomes ambiguous.
DRIFT = 0.15
GROWTH = 0.15
TURNING = 0.3
DRIFTS = {
    "move_left": (X, -DRIFT),
    "move_right": (X, DRIFT),
    "move_up": (Y, -DRIFT),
    "move_down": (Y, DRIFT),
    "grow": (LOG_SIZE, GROWTH),
    "shrink": (LOG_SIZE, -GROWTH),
    "turn_left": (ANGLE, -TURNING),
    "turn_right": (ANGLE, TURNING),
}
# Hertz. With PACE_JITTER the two bands (0.38 to 0.63 and 0.94 to 1.56) stay apart; two frames of a swing
# look alike at both rates, since the amplitude is the same.
SWINGS = {"swing_slow": 0.5, "swing_fast": 1.25}
AMPLITUDE = 0.3
CLASSES = (*DRIFTS, *SWINGS)

PACE_JITTER = 0.25
SECONDS = (2.0, 3.2)
FRAME_RATES = (12, 24)
# Extent of the object as a share of the picture's side: large enough to show its angle at 64 pixels, small
# enough not to touch its own copy across the edge.
EXTENT = (0.28, 0.62)

# Outlines that show their angle and fill a circle of diameter 1 about the centre of their turning.
OUTLINES = {
    "arrow": (
        (0.5, 0.0),
        (0.05, 0.42),
        (0.05, 0.17),
        (-0.45, 0.17),
        (-0.45, -0.17),
        (0.05, -0.17),
        (0.05, -0.42),
    ),
    "kite": ((0.5, 0.0), (-0.2, 0.4), (-0.45, 0.0), (-0.2, -0.4)),
    "hook": ((-0.3, -0.4), (-0.02, -0.4), (-0.02, 0.12), (0.4, 0.12), (0.4, 0.3), (-0.3, 0.4)),
}
TEXTURE = 14  # standard deviation of the background's grain in grey levels
DIM = 0.25  # what is left of a lamp's light at the far side of the picture
SHIFT = 6  # fractional bits of the polygon corners: motions are slower than a pixel a frame


def states(label: str, times: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(F, 4) states X, Y, ANGLE, LOG_SIZE in [0, 1] of a clip of `label` at `times` (F,) seconds."""
    start, pace, phase = rng.random(4), rng.uniform(1 - PACE_JITTER, 1 + PACE_JITTER), rng.random()
    moved = np.zeros((len(times), 4))
    if label in SWINGS:
        moved[:, X] = AMPLITUDE * np.sin(2 * np.pi * (SWINGS[label] * pace * times + phase))
    else:
        variable, speed = DRIFTS[label]
        moved[:, variable] = speed * pace * times
    return (start + moved) % 1.0


def draw_clip(label: str, rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], int]:
    """RGB frames (F, size, size, 3) of one clip and their rate in frames a second."""
    fps = int(rng.choice(FRAME_RATES))
    times = np.arange(round(rng.uniform(*SECONDS) * fps)) / fps
    track = states(label, times, rng)
    outline = np.array(OUTLINES[rng.choice(sorted(OUTLINES))])
    background, colour = _colours(rng, size)
    frames = np.empty((len(times), size, size, 3), np.uint8)
    corners = (_corners(outline, track) * size - 0.5) * 2**SHIFT  # a pixel's centre lies at .5
    for frame, copies in zip(frames, corners.round().astype(np.int32), strict=True):
        cover = np.zeros((size, size), np.uint8)
        cv2.fillPoly(cover, list(copies), (255,), cv2.LINE_AA, SHIFT)
        share = cover[:, :, None].astype(np.float32) / 255
        frame[:] = (background + share * (colour - background)) * light(size)
    return frames, fps


@functools.cache
def light(size: int) -> NDArray[np.float32]:
    """What two lamps, a red one at the right and a green one at the bottom, leave of each colour.

    (size, size, 3) factors in [DIM, 1], the same in every clip. They let a backbone that averages over
    the picture, as convolutional ones do, see where the object is.
    """
    ramp = np.linspace(DIM, 1.0, size, dtype=np.float32)
    across, down = np.meshgrid(ramp, ramp)
    return np.stack([across, down, np.ones_like(across)], axis=-1)


def _corners(outline: NDArray[np.float64], track: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F, 9, V, 2) corners in sides of the picture, with a copy of the object across every edge."""
    low, high = EXTENT
    extent = low * (high / low) ** track[:, LOG_SIZE]  # (F,)
    angle = 2 * np.pi * track[:, ANGLE]
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.stack([cosine, sine, -sine, cosine], axis=-1).reshape(-1, 2, 2)  # (F, 2, 2)
    body = extent[:, None, None] * (outline @ turn)  # (F, V, 2)
    edges = np.array([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)])
    centres = track[:, None, [X, Y]] + edges  # (F, 9, 2)
    corners: NDArray[np.float64] = centres[:, :, None] + body[:, None]
    return corners


def _colours(rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A dark textured background (size, size, 3) and the colour (3,) of a lighter object, 0-255."""
    grain = np.zeros((size, size, 3), np.float32)
    for cells in (4, 12):  # blotches and grain
        noise = rng.standard_normal((cells, cells, 3), np.float32)
        grain += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    background = (rng.uniform(30, 80, 3) + TEXTURE * grain).clip(0, 255)
    return background.astype(np.float32), rng.uniform(170, 255, 3).astype(np.float32)
