"""One clip of the data set `motions`: how its object moves, and how the frames are drawn.

The object has a position, an angle and a size; a class moves one of them. A path is placed anywhere in its
range with equal chance, and drifts come in mirrored pairs that show the same frames in opposite order. So
a frame taken at random hardly tells the classes apart, and never the two of a pair: the label lies in how
frames follow each other.
"""

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

X, Y, ANGLE, LOG_SIZE = range(4)

# Shares of the range a second. A path must fit into its range even at the fastest pace and the longest
# duration: 0.2 * 1.25 * 3.2 = 0.8.
DRIFT = 0.2
DRIFTS = {
    "move_left": (X, -DRIFT),
    "move_right": (X, DRIFT),
    "move_up": (Y, -DRIFT),
    "move_down": (Y, DRIFT),
    "grow": (LOG_SIZE, DRIFT),
    "shrink": (LOG_SIZE, -DRIFT),
}
TURNING = 0.3  # turns a second, in either direction
# Hertz. With PACE_JITTER the bands (0.26 to 0.44 and 1.05 to 1.75) stay apart, and below the 2 Hz that
# the default 4 frames a second can tell; 2 frames a second cannot tell them apart.
SWINGS = {"swing_slow": 0.35, "swing_fast": 1.4}
AMPLITUDE = 0.25
CLASSES = (*DRIFTS, "turn", *SWINGS)

PACE_JITTER = 0.25
SECONDS = (2.0, 3.2)
FRAME_RATES = (12, 24)
# Extent of the object as a share of the picture's side: the smallest still shows its angle at 48 pixels.
EXTENT = (0.3, 0.6)

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
TEXTURE = 10  # standard deviation of the background's grain in grey levels
DIM = 0.1  # what is left of a lamp's light at the far side of the picture
MARGIN = 0.2  # the centre's distance from the border, a share of the side, below which it never comes
TAIL = 0.3  # brightness of the tail, where the tip has 1
SHIFT = 6  # fractional bits of the polygon corners: motions are slower than a pixel a frame


def states(label: str, times: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(F, 4) states X, Y, ANGLE, LOG_SIZE in [0, 1] of a clip of `label` at `times` (F,) seconds."""
    start, pace = rng.random(4), rng.uniform(1 - PACE_JITTER, 1 + PACE_JITTER)
    phase, side = rng.random(), rng.choice([-1, 1])
    moved = np.zeros((len(times), 4))
    if label in SWINGS:
        moved[:, X] = AMPLITUDE * np.sin(2 * np.pi * (SWINGS[label] * pace * times + phase))
    elif label == "turn":
        moved[:, ANGLE] = side * TURNING * pace * times
    else:
        variable, speed = DRIFTS[label]
        moved[:, variable] = speed * pace * times
    low, high = moved.min(axis=0), moved.max(axis=0)
    placed = moved - low + start * (1 - (high - low))  # anywhere that the whole path fits
    placed[:, ANGLE] = (start[ANGLE] + moved[:, ANGLE]) % 1.0  # angles have no ends
    return np.asarray(placed, np.float64)


def draw_clip(label: str, rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], int]:
    """RGB frames (F, size, size, 3) of one clip and their rate in frames a second."""
    fps = int(rng.choice(FRAME_RATES))
    times = np.arange(round(rng.uniform(*SECONDS) * fps)) / fps
    track = states(label, times, rng)
    outline = np.array(OUTLINES[rng.choice(sorted(OUTLINES))])
    background, colour = _colours(rng, size)
    frames = np.empty((len(times), size, size, 3), np.uint8)
    for frame, state in zip(frames, track, strict=True):
        cover = _object(outline, state, size)[:, :, None]
        frame[:] = (background * (1 - (cover > 0)) + cover * colour) * light(size)
    return frames, fps


def _object(outline: NDArray[np.float64], state: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Brightness (size, size) of the object, 0 outside it: dark at its tail, bright at its tip."""
    low, high = EXTENT
    extent = low * (high / low) ** state[LOG_SIZE] * size
    x, y = (MARGIN + (1 - 2 * MARGIN) * state[[X, Y]]) * size - 0.5  # a pixel's centre lies at .5
    cosine, sine = np.cos(2 * np.pi * state[ANGLE]), np.sin(2 * np.pi * state[ANGLE])
    corners = extent * (outline @ np.array([[cosine, sine], [-sine, cosine]])) + (x, y)
    cover = np.zeros((size, size), np.uint8)
    cv2.fillPoly(cover, [(corners * 2**SHIFT).round().astype(np.int32)], (255,), cv2.LINE_AA, SHIFT)
    down, across = np.ogrid[:size, :size]
    along = ((across - x) * cosine + (down - y) * sine) / extent  # -0.5 at the tail, 0.5 at the tip
    shade = np.clip(TAIL + (1 - TAIL) * (along + 0.5), TAIL, 1)
    return np.asarray(cover / 255 * shade, np.float32)


@functools.cache
def light(size: int) -> NDArray[np.float32]:
    """What two lamps, a red one at the right and a green one at the bottom, leave of each colour.

    (size, size, 3) factors in [DIM, 1], the same in every clip. They let a backbone that averages over
    the picture, as convolutional ones do, see where the object is.
    """
    ramp = np.linspace(DIM, 1.0, size, dtype=np.float32)
    across, down = np.meshgrid(ramp, ramp)
    return np.stack([across, down, np.ones_like(across)], axis=-1)


def _colours(rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A dark textured background (size, size, 3) and the colour (3,) of a lighter object, 0-255."""
    grain = np.zeros((size, size, 3), np.float32)
    for cells in (4, 12):  # blotches and grain
        noise = rng.standard_normal((cells, cells, 3), np.float32)
        grain += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    background = (rng.uniform(25, 55, 3) + TEXTURE * grain).clip(0, 255)
    return background.astype(np.float32), rng.uniform(190, 255, 3).astype(np.float32)
