"""Plots as PNG files: training curves, confusion, accuracy against cost. Same data, same bytes."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from vtn.evaluation import figures
from vtn.evaluation.callouts import annotate
from vtn.evaluation.figures import FAINT, FIRST, INK, SECOND
from vtn.evaluation.pareto import pareto_front

COSTS = {
    "latency_ms_p50": "latency of one video, ms (median)",
    "latency_ms_p95": "latency of one video, ms (95th percentile)",
    "peak_memory_mb": "peak memory, MiB",
    "parameters": "parameters",
    "gmacs": "multiply-adds of one video, billions",
}
# Of these more is better.
SPEEDS = {
    "clips_per_second": "videos a second, in batches (median)",
    "frames_per_second": "frames a second, in batches of videos (median)",
}
# Beyond so many classes counts, and then names, no longer fit their cells.
COUNTED_CLASSES, NAMED_CLASSES = 12, 60
LONGEST_NAME = 28


@figures.styled
def training_curves(
    history: pd.DataFrame, *, path: Path, protocol: str, videos: int, classes: int | None = None
) -> Path:
    """Draw loss, validation top-1 and learning rate by epoch, as far as the columns are there.

    Args:
        history: one row an epoch: epoch, and any of train_loss, val_loss, val_top1, learning_rate.
            NaN where an epoch did not measure.
        path: the PNG to write.
        protocol: how val_top1 was measured.
        videos: validation videos.
        classes: K, for the line of chance.

    Raises:
        ValueError: no epoch column, or nothing to draw.
    """
    panels = {
        "loss": {"train_loss": ("training", FAINT), "val_loss": ("validation", FIRST)},
        "top-1": {"val_top1": ("validation", FIRST)},
        "learning rate": {"learning_rate": ("", INK)},
    }
    drawn = {
        panel: {
            column: look
            for column, look in lines.items()
            if column in history and history[column].notna().any()
        }
        for panel, lines in panels.items()
    }
    drawn = {panel: lines for panel, lines in drawn.items() if lines}
    if "epoch" not in history or not drawn:
        raise ValueError(
            f"history has the columns {', '.join(history.columns) or 'none'}; to be drawn it needs numbers in epoch "
            "and in one of train_loss, val_loss, val_top1, learning_rate"
        )
    heights = [1 if panel == "learning rate" else 2.4 for panel in drawn]
    figure = Figure(figsize=(7, 0.8 + 1.05 * sum(heights)), layout="constrained")
    rows = figure.subplots(len(drawn), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (panel, lines) in zip(rows, drawn.items(), strict=True):
        for column, (name, colour) in lines.items():
            known = history[history[column].notna()]
            axes.plot(
                known["epoch"],
                known[column],
                color=colour,
                label=name,
                lw=1.8,
                marker=".",
                ms=5,
                clip_on=False,
            )
        axes.set_ylabel(panel)
        axes.set_ylim(bottom=0)
    if "loss" in drawn:
        rows[0].legend(loc="upper right")
    if "top-1" in drawn:
        _mark_best(rows[list(drawn).index("top-1")], history, classes)
    rows[-1].set_xlabel("epoch")
    rows[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figures.heading(rows[0], "Training", f"validation: {protocol}", f"{videos:,} videos")
    return figures.save(figure, path)


@figures.styled
def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str], *, path: Path, protocol: str) -> Path:
    """Draw counts (K, K), rows true and columns predicted, coloured by the share of the row.

    Counts are written up to 12 classes and names up to 60; beyond, classes go by number.
    Raises ValueError where the names do not fit the matrix or it holds no video.
    """
    matrix = np.asarray(matrix)
    classes = len(class_names)
    if matrix.shape != (classes, classes) or not matrix.sum():
        raise ValueError(
            f"confusion matrix of shape {matrix.shape} with {matrix.sum()} videos for {classes} class names: "
            "must be (K, K) with at least one video"
        )
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    side = float(np.clip(0.55 * classes, 2.8, 8))
    # Placed by hand, since the longest name would shrink the squares; saving adds the room for it.
    figure = Figure(figsize=(side, side))
    axes = figure.add_axes((0, 0, 1, 1))
    colours = matplotlib.colormaps["Blues"].with_extremes(bad="#dddddd")
    image = axes.imshow(shares, cmap=colours, norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest")
    bar = figure.colorbar(image, cax=figure.add_axes((1 + 0.2 / side, 0.1, 0.12 / side, 0.8)))
    bar.set_label("share of the videos of the true class")
    bar.outline.set_visible(False)
    bar.set_ticks(
        [0, 0.01, 0.05, 0.1, 0.2, 0.5, 1], labels=["0", "1 %", "5 %", "10 %", "20 %", "50 %", "100 %"]
    )
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="predicted class", ylabel="true class")
    if classes <= NAMED_CLASSES:
        _name_classes(axes, class_names, size=min(9, 72 * 0.8 * side / classes))
    if classes <= COUNTED_CLASSES:
        _write_counts(axes, matrix, shares)
    counts = f"{matrix.sum():,} videos · top-1 {np.trace(matrix) / matrix.sum():.3f}"
    if empty := int((totals == 0).sum()):
        counts += f" · classes without videos (grey): {empty}"
    figures.heading(axes, "Confusion", protocol, counts)
    return figures.save(figure, path)


@figures.styled
def accuracy_vs_speed(
    rows: pd.DataFrame,
    *,
    path: Path,
    protocol: str,
    videos: int,
    cost: str = "latency_ms_p50",
    classes: int | None = None,
) -> Path:
    """Draw top-1 against what it costs, with the rows that no other beats joined as a front.

    Args:
        rows: columns label, top1 and `cost`. Rows that lack a number are counted in the heading, not drawn.
            The front is labelled in any case, other rows where there is room.
        path: the PNG to write.
        protocol: how top1 was measured.
        videos: evaluated videos.
        cost: a column in which less is better, or one of SPEEDS; its axis is logarithmic when it spans more than
            10 times.
        classes: K, for the line of chance.

    Raises:
        ValueError: a column is missing, or no row has both numbers.
    """
    more = cost in SPEEDS
    front = (
        pareto_front(rows, maximise=["top1", cost])
        if more
        else pareto_front(rows, maximise=["top1"], minimise=[cost])
    )
    known = np.isfinite(rows[["top1", cost]].to_numpy(float)).all(axis=1)
    if not known.any():
        raise ValueError(f"none of the {len(rows)} rows has both top1 and {cost}: nothing to draw")
    best = rows[front].sort_values([cost, "label"], ascending=[not more, True])
    others = rows[known & ~front]
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(
        others[cost], others["top1"], s=32, facecolor="white", edgecolor=FAINT, zorder=3, clip_on=False
    )
    axes.scatter(
        best[cost],
        best["top1"],
        s=40,
        color=SECOND,
        zorder=4,
        clip_on=False,
        label="Pareto front",
    )
    # Steps, since nothing is known to lie between two rows.
    corners = np.repeat(best[[cost, "top1"]].to_numpy(float), 2, axis=0)
    axes.plot(corners[1:, 0], corners[:-1, 1], color=SECOND, lw=1.2, alpha=0.6)
    _cost_axis(axes, rows[cost][known].to_numpy(float))
    name = (SPEEDS | COSTS).get(cost, cost)
    axes.set(xlabel=f"{name} – {'more' if more else 'less'} is better", ylabel="top-1")
    figures.accuracy_axis(axes, classes)
    axes.legend(loc="lower left" if more else "lower right")
    counts = f"{videos:,} videos"
    if missing := int((~known).sum()):
        counts += f" · rows without a number, not drawn: {missing}"
    figures.heading(axes, f"Accuracy against {'speed' if more else 'cost'}", protocol, counts)
    named = pd.concat([best, others])
    annotate(
        axes,
        x=named[cost].to_numpy(float),
        y=named["top1"].to_numpy(float),
        texts=[_short(label) for label in named["label"]],
        needed=np.arange(len(named)) < len(best),
    )
    return figures.save(figure, path)


def _mark_best(axes: Axes, history: pd.DataFrame, classes: int | None) -> None:
    figures.accuracy_axis(axes, classes)
    best = history.iloc[int(np.nanargmax(history["val_top1"].to_numpy(float)))]
    label = f"best: {best['val_top1']:.3f} in epoch {best['epoch']:.0f}"
    axes.plot(best["epoch"], best["val_top1"], "o", color=SECOND, ms=6, clip_on=False, zorder=4, label=label)
    axes.legend(handles=axes.lines[-1:], loc="best")


def _cost_axis(axes: Axes, costs: np.ndarray) -> None:
    if costs.min() > 0 and costs.max() > 10 * costs.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(costs.min() / 1.3, costs.max() * 1.6)
    else:
        axes.set_xlim(min(0, costs.min()), costs.max() * 1.25)


def _name_classes(axes: Axes, class_names: Sequence[str], *, size: float) -> None:
    names = [_short(name) for name in class_names]
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    upright = {"rotation": 90}
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_xticks(
        range(len(names)), names, fontsize=size, **(slanted if len(names) <= COUNTED_CLASSES else upright)
    )
    axes.tick_params(length=0)


def _write_counts(axes: Axes, matrix: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(matrix):
        # A missing hit is worth its zero; elsewhere zeros are only noise.
        if count or row == column:
            colour = "white" if shares[row, column] > 0.3 else INK
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour)


def _short(name: object) -> str:
    text = str(name)
    half = LONGEST_NAME // 2
    return text if len(text) <= LONGEST_NAME else f"{text[:half]}…{text[1 - half :]}"
