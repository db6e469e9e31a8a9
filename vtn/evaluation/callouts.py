"""Texts beside the points of a plot, where they hide neither each other nor anything else."""

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

# Points (1/72 inch) from a marker to its text; from LEADER on, a line must join the two.
DISTANCES = (7, 16, 28, 42, 60)
LEADER = 16
MARKER = 8
# Upper left first: nothing lies there for a point that no other one beats.
DIRECTIONS = ((-1, 1), (-1, 0), (0, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (1, 1))


def annotate(axes: Axes, *, x: np.ndarray, y: np.ndarray, texts: Sequence[str], needed: np.ndarray) -> None:
    """Write texts[i] near the point (x[i], y[i]), in data coordinates.

    In the order given each text takes the first place that hides least of the points, the earlier texts, the
    legend and the lines (which must run along the axes); to leave the axes counts as hiding. A text that is
    not needed[i] is left out where it would hide anything, or be too far from its point to be told whose it
    is. Limits and scales of `axes` must be final.
    """
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # settles the layout, and with it where the points are in pixels
    scale = figure.dpi / 72
    points = axes.transData.transform(np.column_stack([x, y]))  # (n, 2) pixels
    taken = [_box(point, np.full(2, MARKER * scale)) for point in points] + _obstacles(axes)
    for point, x_value, y_value, text, must in zip(points, x, y, texts, needed, strict=True):
        note = axes.annotate(text, (x_value, y_value), (0, 0), textcoords="offset points", fontsize=8)
        note.set(ha="center", va="center", in_layout=False, zorder=5)
        size = np.array(note.get_window_extent().size)
        hidden, place, distance = _best_place(point, size, taken, axes.bbox, scale)
        if not must and (hidden > 0 or distance >= LEADER):
            note.remove()
            continue
        taken.append(place)
        offset = (place.get_points().mean(axis=0) - point) / scale
        note.set_position((offset[0], offset[1]))
        if distance >= LEADER:
            _join(axes, (x_value, y_value), (offset[0], offset[1]))


def _best_place(
    point: np.ndarray, size: np.ndarray, taken: Sequence[Bbox], frame: Bbox, scale: float
) -> tuple[float, Bbox, int]:
    """How much the best place hides (square pixels), its box (pixels) and its distance (points)."""
    candidates = []
    for distance, direction in product(DISTANCES, DIRECTIONS):
        step = distance * scale / np.hypot(*direction)
        box = _box(point + np.array(direction) * (step + size / 2), size)
        outside = box.width * box.height - _overlap(box, frame)
        candidates.append((outside + sum(_overlap(box, other) for other in taken), box, distance))
    return min(candidates, key=lambda candidate: candidate[0])


def _obstacles(axes: Axes) -> list[Bbox]:
    """What the axes hold already, in pixels: texts, the legend and each stretch of a line."""
    boxes = [text.get_window_extent() for text in axes.texts]
    if legend := axes.get_legend():
        boxes.append(legend.get_window_extent())
    for line in axes.lines:
        corners = line.get_transform().transform(np.column_stack(line.get_data()).astype(float))
        boxes += [Bbox([np.minimum(a, b) - 1, np.maximum(a, b) + 1]) for a, b in pairwise(corners)]
    return boxes


def _join(axes: Axes, point: tuple[float, float], offset: tuple[float, float]) -> None:
    look = {"arrowstyle": "-", "color": "0.6", "lw": 0.6, "shrinkA": 0, "shrinkB": 3}
    axes.annotate("", point, offset, textcoords="offset points", arrowprops=look, zorder=2)


def _box(centre: np.ndarray, size: np.ndarray) -> Bbox:
    return Bbox([centre - size / 2, centre + size / 2])


def _overlap(one: Bbox, other: Bbox) -> float:
    """Area that two boxes share, in square pixels."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(width, 0) * max(height, 0))
