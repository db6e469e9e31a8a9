"""The picture of an explanation: the film strip, the weights under it (VTN paper, figure 3), the deletion check."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from vtn.evaluation import figures
from vtn.evaluation.figures import FAINT, FIRST, INK, SECOND
from vtn.explanation.deletion import Deletion, Weights, gap_from_random
from vtn.explanation.explain import Explanation, clock, frame_edges, percent

# Inches. With the labels on its left the content makes a page of 10, which is 1,500 pixels.
LEFT, WIDTH, RIGHT = 0.7, 9.0, 0.15
HEADING, MARKS, CAPTION, GAP = 0.8, 0.2, 0.28, 0.6
BARS, HEAD, LEAST_HEADS = 0.6, 0.05, 0.16
WORDS, CURVES, CURVES_WIDTH, PICTURE, PICTURE_CAPTION = 1.0, 2.8, 4.9, 1.1, 0.22
# Beyond so many frames a bar is the mean of several and about four pixels wide.
BARS_AT_MOST = 360


@figures.styled
def draw(found: Explanation, *, path: Path) -> Path:
    """Write the page as a PNG, as wide for a video of hours as for one of seconds."""
    layers, heads, frames = found.weights.shape
    side = min(PICTURE, WIDTH / len(found.strip) - 0.02)
    lane = max(HEAD * heads, LEAST_HEADS)
    weights_at = HEADING + side + MARKS
    check_at = weights_at + layers * (CAPTION + BARS + lane) + GAP
    sheet = _Sheet(check_at + WORDS + (CURVES + GAP if found.deletion else 2 * PICTURE_CAPTION + PICTURE))
    edges = frame_edges(found.seconds)

    strip = sheet.axes(HEADING, side)
    _film_strip(strip, found, edges, side)
    _title(strip, found)
    _marks(sheet.axes(HEADING + side, MARKS), found, edges)
    for number in range(layers):
        top = weights_at + number * (CAPTION + BARS + lane) + CAPTION
        by_head = sheet.axes(top + BARS, lane)
        _mean_weights(sheet.axes(top, BARS), found, edges, number)
        _weights_by_head(by_head, found, edges, number)
    by_head.tick_params(labelbottom=True)
    several = (
        f", one bar the mean of about {frames / BARS_AT_MOST:.0f} frames" if frames > BARS_AT_MOST else ""
    )
    by_head.set_xlabel(f"seconds{several}", labelpad=1)
    _check(sheet, found, check_at)
    return figures.save(sheet.figure, path)


class _Sheet:
    """A figure on which axes are placed in inches."""

    def __init__(self, height: float) -> None:
        self.height = height
        self.width = LEFT + WIDTH + RIGHT
        self.figure = Figure(figsize=(self.width, height))

    def axes(self, top: float, height: float, *, left: float = 0, width: float = WIDTH) -> Axes:
        """Axes that begin `top` below the page's edge and `left` right of the content's."""
        bottom = self.height - top - height
        return self.figure.add_axes(
            (
                (LEFT + left) / self.width,
                bottom / self.height,
                width / self.width,
                height / self.height,
            )
        )


def _title(axes: Axes, found: Explanation) -> None:
    prediction = found.prediction
    (label, probability), *others = prediction.top(3).items()
    then = f" · then {', '.join(f'{name} {share:.2f}' for name, share in others)}" if others else ""
    note = f" · {prediction.note}" if prediction.note else ""
    figures.heading(
        axes,
        f"{label} {probability:.2f}",
        f"{found.video} · {prediction.extent}{then}{note}",
        found.model,
    )


def _film_strip(axes: Axes, found: Explanation, edges: Weights, side: float) -> None:
    """Frames as the model saw them, each in the middle of its stretch of time."""
    stretches = np.linspace(edges[0], edges[-1], len(found.strip) + 1)
    half = side / 2 * (edges[-1] - edges[0]) / WIDTH  # seconds
    for frame, start, stop in zip(found.strip.tolist(), stretches, stretches[1:], strict=False):
        middle = (start + stop) / 2
        axes.imshow(found.pictures[frame], extent=(middle - half, middle + half, 0, 1), aspect="auto")
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1))
    axes.axis("off")


def _marks(axes: Axes, found: Explanation, edges: Weights) -> None:
    """Numbers of the moments of highest weight, between the film and the weights."""
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1))
    axes.axis("off")
    for rank, frame in enumerate(found.moments.tolist(), start=1):
        axes.text(
            found.seconds[frame], 0.4, str(rank), color=SECOND, fontweight="bold", ha="center", va="center"
        )


def _mean_weights(axes: Axes, found: Explanation, edges: Weights, layer: int) -> None:
    """The weight of each frame in one layer, the mean over its heads, beside that of an even spread."""
    stairs, values = binned(edges, found.weights[layer].mean(axis=0)[None])
    axes.stairs(values[0], stairs, fill=True, color=FIRST, lw=0)
    itself = found.itself[layer].mean()
    even = (1 - itself) / len(found.seconds)
    axes.axhline(even, color=INK, lw=0.9, ls=(0, (2, 2)))
    for frame in found.moments.tolist():
        axes.axvline(found.seconds[frame], color=SECOND, lw=0.8, zorder=0)
    highest = max(float(values.max()), even)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1.08 * highest), yticks=(highest,))
    axes.set_yticklabels([percent(highest)])
    axes.tick_params(labelbottom=False, length=0)
    axes.grid(False)
    text = f"CLS itself {percent(itself)} · dotted: all frames alike, {percent(even)} each"
    if found.deletion is not None:
        text += f" · by this layer alone P is {gap_from_random(found.deletion.layer_areas[layer])}"
    _caption(axes, f"layer {layer + 1}", text)


def _weights_by_head(axes: Axes, found: Explanation, edges: Weights, layer: int) -> None:
    """One lane a head, the first on top, white at zero and blue at the layer's highest weight."""
    heads = found.weights.shape[1]
    stairs, values = binned(edges, found.weights[layer])
    axes.pcolormesh(stairs, np.arange(heads + 1), values, cmap="Blues", vmin=0, vmax=values.max())
    axes.set(xlim=(edges[0], edges[-1]), ylim=(heads, 0), yticks=(heads / 2,))
    axes.set_yticklabels([f"{heads} head{'s' * (heads > 1)}"])
    axes.tick_params(labelbottom=False, length=0)
    axes.grid(False)


def binned(edges: Weights, weights: Weights) -> tuple[Weights, Weights]:
    """Edges (M+1,) and mean weights (N, M) of at most 360 runs of frames, from (T+1,) and (N, T)."""
    frames = weights.shape[1]
    starts = np.linspace(0, frames, min(frames, BARS_AT_MOST) + 1).astype(np.int64)
    sums = np.add.reduceat(weights, starts[:-1], axis=1)
    return edges[starts], sums / np.diff(starts)


def _check(sheet: _Sheet, found: Explanation, top: float) -> None:
    """The deletion check in words over its curves, and the moments of highest weight beside them."""
    words = sheet.axes(top + WORDS, PICTURE_CAPTION)
    words.axis("off")
    figures.heading(words, "Do these weights matter to the answer?", *found.words)
    if found.deletion is None:
        _moments(sheet, found, top + WORDS, left=0, columns=len(found.moments))
        return
    _curves(sheet.axes(top + WORDS, CURVES, width=CURVES_WIDTH), found.deletion)
    _moments(sheet, found, top + WORDS, left=CURVES_WIDTH + 0.4, columns=3)


def _moments(sheet: _Sheet, found: Explanation, top: float, *, left: float, columns: int) -> None:
    """The frames of highest weight, numbered as under the film strip."""
    title = sheet.axes(top, PICTURE_CAPTION, left=left, width=PICTURE)
    title.axis("off")
    title.text(0, 0.5, "highest weights, mean over layers and heads", va="center", transform=title.transAxes)
    for number, frame in enumerate(found.moments.tolist()):
        row, column = divmod(number, columns)
        axes = sheet.axes(
            top + (row + 2) * PICTURE_CAPTION + row * PICTURE,
            PICTURE,
            left=left + column * (PICTURE + 0.16),
            width=PICTURE,
        )
        axes.imshow(found.pictures[frame], aspect="auto")
        axes.axis("off")
        _caption(
            axes,
            str(number + 1),
            f"{clock(found.seconds[frame])}, {percent(found.importance[frame])}",
            SECOND,
        )


def _curves(axes: Axes, check: Deletion) -> None:
    shares = np.concatenate([[0], check.shares])

    def from_whole(curve: Weights) -> Weights:
        return np.concatenate([[check.whole], curve])

    axes.fill_between(
        shares,
        from_whole(check.random.min(axis=0)),
        from_whole(check.random.max(axis=0)),
        color="#dddddd",
        lw=0,
        label=f"random: mean and range of {len(check.random)}",
    )
    axes.plot(shares, from_whole(check.random.mean(axis=0)), color=FAINT, lw=1.5)
    look: Any = {"lw": 1.8, "marker": ".", "ms": 6, "clip_on": False, "zorder": 3}
    axes.plot(shares, from_whole(check.lowest), color=FIRST, label="lowest first", **look)
    axes.plot(shares, from_whole(check.highest), color=SECOND, label="highest first", **look)
    axes.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="removed share of the frames", ylabel="P, probability of the answer"
    )
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    # Below the axes: inside there is no corner that no curve may cross.
    small: Any = {"fontsize": 8, "handlelength": 1.6, "borderpad": 0, "borderaxespad": 0}
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, **small)


def _caption(axes: Axes, bold: str, text: str, colour: str = INK) -> None:
    """A line over the upper left corner, its beginning bold."""
    first = axes.annotate(
        bold,
        (0, 1),
        (0, 3),
        xycoords="axes fraction",
        textcoords="offset points",
        color=colour,
        fontweight="bold",
    )
    axes.annotate(
        text,
        (1, 0),
        (5, 0),
        xycoords=first,
        textcoords="offset points",
        color="#555555",
        fontsize=8,
        va="bottom",
    )
