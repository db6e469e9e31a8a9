"""The paper ledger: for every row of the paper's tables, its numbers and ours, without weights or data."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from vtn import config, presets
from vtn.evaluation.benchmark import multiply_adds
from vtn.model import vtn
from vtn.model.backbone import Backbone
from vtn.sections import HeadConfig, ModelConfig, Params, TemporalConfig
from vtn.study import Published

# Tables 6 and 7: Kinetics-400, whole videos of 10 s at 25 frames a second.
FRAMES = 250
CLASSES = 400

REPORT = Path("reports/ledger.csv")
MARK = "<!-- Below: `vtn ledger --document`. -->\n"
COLUMNS = {
    "table": "table",
    "row": "preset",
    "paper_top1": "top-1",
    "paper_top5": "top-5",
    "paper_parameters_m": "paper: M parameters",
    "parameters_m": "ours",
    "paper_gmacs": "paper: G multiply-adds",
    "release_gmacs": "release, counted",
    "gmacs": "ours",
    "whole_gmacs": "ours in full",
}


@dataclass(frozen=True)
class Costs:
    """Size of a model, and 1e9 multiply-adds of one pass over one video, counted in three ways."""

    parameters: int
    release: float  # what the release computes, by the paper's count
    ours: float  # what we compute: the backbone by the same count, all else with every product
    whole: float  # what we compute with every product, as in metrics.json


def table() -> pd.DataFrame:
    """Every row of the paper's tables on VTN: names, the paper's numbers, ours; see `COLUMNS`."""
    return pd.DataFrame(list(_rows()), columns=list(COLUMNS))


def markdown(rows: pd.DataFrame) -> str:
    """The ledger for people; what the paper does not say stays empty."""
    lines = [[_text(value, column) for column, value in row.items()] for _, row in rows.iterrows()]
    lines.insert(0, list(COLUMNS.values()))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = (" | ".join(map(str.ljust, line, widths)) for line in lines)
    return "".join(f"| {line} |\n" for line in padded)


def write(rows: pd.DataFrame, *, document: Path | None = None) -> None:
    """Write reports/ledger.csv, and the printed table into `document` below its mark."""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(REPORT, index=False, float_format="%.6g")
    if document is None:
        return
    text, mark, _ = document.read_text().partition(MARK)
    if not mark:
        raise ValueError(f"{document} lacks the line {MARK.strip()!r} that the table goes below")
    document.write_text(f"{text}{MARK}\n{markdown(rows)}")


@cache
def costs(model: ModelConfig, *, crop: int, frames: int = FRAMES) -> Costs:
    """What a model is and does on a video of `frames` frames of `crop` pixels a side.

    It is built without storage, so neither weights are loaded nor products computed.
    """
    random = model.model_copy(
        update={"backbone": model.backbone.model_copy(update={"pretrained": False, "weights": None})}
    )
    with torch.device("meta"), torch.inference_mode():
        built = vtn.build(random, num_classes=CLASSES, crop=crop).eval()
        assert built.backbone is not None
        video = torch.empty(1, frames, 3, crop, crop)
        features = torch.empty(1, frames, built.backbone.num_features)
        positions = torch.zeros(1, frames, dtype=torch.int64)
        whole = multiply_adds(lambda: built(video, positions))
        after_backbone = multiply_adds(lambda: built(features, positions))
        backbone = frames * backbone_multiply_adds(built.backbone, crop=crop)
    width = model.temporal.width or built.backbone.num_features
    encoder = release_multiply_adds(model.temporal, model.head, width=width, frames=frames)
    return Costs(
        parameters=vtn.parameter_count(built),
        release=(backbone + encoder) / 1e9,
        ours=(backbone + after_backbone) / 1e9,
        whole=whole / 1e9,
    )


def backbone_multiply_adds(backbone: Backbone, *, crop: int) -> float:
    """One frame by the paper's count: convolutions, linear maps, and 2 a number that leaves a BatchNorm.

    Products of activations, which are a transformer's attention, are not in the paper's numbers. That this is
    its count was found from table 7: see docs/decisions/0002-paper-ledger.md.
    """
    normalised: list[int] = []

    def note(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        normalised.append(output.numel())

    hooks = [
        module.register_forward_hook(note) for module in backbone.modules() if isinstance(module, _BatchNorm)
    ]
    with FlopCounterMode(display=False) as counter:
        backbone(torch.empty(1, 3, crop, crop))
    for hook in hooks:
        hook.remove()
    weighed = (torch.ops.aten.convolution, torch.ops.aten.addmm, torch.ops.aten.mm)
    counts = counter.get_flop_counts()["Global"]
    return float(sum(counts.get(kind, 0) for kind in weighed) / 2 + 2 * sum(normalised))


def release_multiply_adds(temporal: TemporalConfig, head: HeadConfig, *, width: int, frames: int) -> float:
    """Temporal encoder and head of the release over one video, by the paper's count.

    Every layer takes all tokens, padded to a multiple of twice the window, through six projections (the
    seventh, query_global, is for CLS alone) and the feed-forward; products of activations are not counted.
    """
    token = 6 * width**2 + 2 * width * temporal.feedforward
    layers = (_padded(frames + 1, 2 * window) * token + width**2 for window in temporal.windows)
    return sum(layers) + width * head.hidden + head.hidden * CLASSES


def _padded(tokens: int, multiple: int) -> int:
    return -(-tokens // multiple) * multiple


def _rows() -> Iterator[list[object]]:
    known = presets.known()
    for paper in presets.tables():
        for row in paper.rows:
            params = config.with_overrides(Params(), known[row.name].set)
            yield _row(paper.title.partition(":")[0], row.name, row.paper, params)


def _row(table_name: str, name: str, paper: Published, params: Params) -> list[object]:
    found = costs(params.model, crop=params.clip.crop)
    return [
        table_name,
        name,
        paper.top1,
        paper.top5,
        paper.parameters_m,
        found.parameters / 1e6,
        paper.gmacs,
        found.release,
        found.ours,
        found.whole,
    ]


def _text(value: Any, column: Hashable) -> str:
    """A cell: the paper's numbers with its digits, ours with two."""
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return ""
    if column in ("paper_top1", "paper_top5"):
        return f"{value:.1f}"
    return f"{value:.0f}" if str(column).startswith("paper_") else f"{value:.2f}"
