"""How our figures look, and how they reach the disk: same data, same bytes."""

import os
import textwrap
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 150
INK, FAINT, FIRST, SECOND = "#222222", "#8a8a8a", "#1f5fa8", "#d1603d"
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.direction": "out",
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be called $5
}

# From the defaults up: what a person sets for their own plots must not change ours.
styled = style.context(["default", STYLE])


def heading(axes: Axes, title: str, *details: str) -> None:
    """A bold title over lines of details, flush with the left edge of the axes."""
    width = axes.get_window_extent().width / axes.figure.dpi  # inches, in which 13 letters find room
    lines = [line for text in details for line in textwrap.wrap(text, width=max(60, int(13 * width)))]
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=10 + 12 * len(lines))
    axes.annotate(
        "\n".join(lines),
        (0, 1),
        (0, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        color="#555555",
    )


def accuracy_axis(axes: Axes, classes: int | None) -> None:
    """Top-1 on its whole scale, 0 to 1, with the level of guessing."""
    axes.set_ylim(0, 1)
    if classes:
        axes.axhline(1 / classes, color=FAINT, lw=1, ls=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"chance {1 / classes:.3g}",
            (1, 1 / classes),
            (0, 3),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            color=FAINT,
            fontsize=8,
        )


def save(figure: Figure, path: Path) -> Path:
    """Write the PNG aside and rename it, so that `path` never holds half a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    # The tight box grows with what sticks out; without the version of the software the bytes depend on data alone.
    figure.savefig(
        aside, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.15, metadata={"Software": None}
    )
    aside.replace(path)
    return path
