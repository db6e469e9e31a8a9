"""Who stands in the table `runtime`, under which protocol, and what tables 6 and 7 of the paper say of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from vtn import config, presets
from vtn.model import vtn
from vtn.model.vtn import VTN
from vtn.runtime.baselines import BASELINES, CLASSES, Baseline
from vtn.sections import Params

# The paper's whole video: 10 s at 25 frames a second.
FRAMES = 250
# Its multi-view protocol for VTN (table 7), and the crop of both.
VIEW_FRAMES, CLIPS, CROPS, CROP = 16, 10, 3, 224
# Frames that pass a VTN's backbone at once: memory does not grow with the video.
CHUNK = 25


@dataclass(frozen=True)
class Published:
    """A row of the paper's tables 6 and 7: 1e6 parameters, 1e9 multiply-adds a video, minutes of validation.

    The minutes are for Kinetics-400 on 8 V100 GPUs, reading and decoding included.
    """

    parameters_m: float
    whole_gmacs: float | None = None
    whole_minutes: float | None = None
    views_gmacs: float | None = None
    views_minutes: float | None = None


PAPER = {
    "vit_b_vtn_1": Published(96, whole_gmacs=4214, whole_minutes=48, views_gmacs=8095),
    "vit_b_vtn_3": Published(114, whole_gmacs=4218, whole_minutes=52, views_gmacs=8113),
    "r50_vtn": Published(168, whole_gmacs=1059, whole_minutes=32, views_gmacs=2106),
    "r101_vtn": Published(187, whole_gmacs=1989, whole_minutes=32, views_gmacs=3895),
    "deit_ti_vtn": Published(10, whole_minutes=30),
    "i3d_r50": Published(28, views_minutes=84),
    "nl_i3d_r101": Published(54, 1266, 31, 2625, 150),
    "slowfast_8x8_r50": Published(35, 517, 26, 1971, 140),
    "slowfast_16x8_r101": Published(60, whole_gmacs=838, views_gmacs=6390, views_minutes=244),
}


@dataclass(frozen=True)
class Row:
    """One model under one protocol; `build` gives a module from frames (B, T, C, H, W) to logits (B, K)."""

    model: str
    build: Callable[[], nn.Module]
    frames: int  # T of one pass
    crop: int
    views: int
    protocol: str
    package: str | None = None  # beyond our own dependencies

    @property
    def name(self) -> str:
        """What --rows calls it: MODEL.whole or MODEL.views."""
        return f"{self.model}.{self.kind}"

    @property
    def kind(self) -> str:
        """Whole video in one pass, or views."""
        return "whole" if self.views == 1 else "views"


class ByChunks(nn.Module):
    """A VTN on frames alone, CHUNK of them through the backbone at a time, then one pass over time."""

    def __init__(self, model: VTN) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (B, K) of normalised frames (B, T, C, H, W)."""
        chunks = [self.model.encode_frames(chunk) for chunk in torch.split(frames, CHUNK, dim=1)]
        features = torch.cat(chunks, dim=1)  # (B, T, D)
        positions = torch.arange(frames.shape[1], device=frames.device).expand(len(frames), -1)  # (B, T)
        return self.model.classify(self.model.encode_time(features, positions))


# Presets whose models stand in table 6.
VTNS = ("vit_b_vtn_1", "vit_b_vtn_3", "r50_vtn", "r101_vtn", "deit_ti_vtn")


def rows(frames: int = FRAMES) -> list[Row]:
    """Every row of the table; whole videos have `frames` frames."""
    found: list[Row] = []
    for model in VTNS:
        build = partial(_build_vtn, model)
        found.append(Row(model, build, frames, CROP, 1, _whole(frames, CROP)))
        views = _views(VIEW_FRAMES, CROP, CLIPS, CROPS)
        found.append(Row(model, build, VIEW_FRAMES, CROP, CLIPS * CROPS, views))
    for baseline in BASELINES:
        found.extend(_baseline_rows(baseline, frames))
    return found


def choose(wanted: Sequence[str] | None, frames: int = FRAMES) -> list[Row]:
    """The rows of these names, or of these models; ValueError names those there are."""
    known = rows(frames)
    if wanted is None:
        return known
    names = {name for row in known for name in (row.name, row.model)}
    if unknown := [name for name in wanted if name not in names]:
        there = ", ".join(row.name for row in known)
        raise ValueError(
            f"--rows: no row {', '.join(unknown)}; there are {there}, and each model's name for both"
        )
    return [row for row in known if row.name in wanted or row.model in wanted]


def check_installed(chosen: Iterable[Row]) -> None:
    """Raise ValueError where a row's package is absent, before anything is measured."""
    for package in dict.fromkeys(row.package for row in chosen if row.package):
        if find_spec(package) is None:
            without = ", ".join(dict.fromkeys(row.model for row in rows() if row.package != package))
            raise ValueError(
                f"{package} is not installed: run `make baselines`, or give --rows some of {without}"
            )


def _baseline_rows(baseline: Baseline, frames: int) -> Iterable[Row]:
    views = _views(baseline.frames, baseline.crop, baseline.clips, baseline.crops)
    clip = partial(baseline.build, baseline.frames)
    yield Row(baseline.name, clip, baseline.frames, baseline.crop, baseline.views, views, baseline.package)
    if baseline.multiple is not None:
        whole = -(-frames // baseline.multiple) * baseline.multiple
        video = partial(baseline.build, whole)
        yield Row(
            baseline.name, video, whole, baseline.crop, 1, _whole(whole, baseline.crop), baseline.package
        )


def _build_vtn(preset: str) -> nn.Module:
    overrides = {**presets.find(preset).set, "model.backbone.pretrained": False}
    params = config.with_overrides(Params(), overrides)
    return ByChunks(vtn.build(params.model, num_classes=CLASSES, crop=CROP))


def _whole(frames: int, crop: int) -> str:
    return f"{frames} frames x 1 view @ {crop}"


def _views(frames: int, crop: int, clips: int, crops: int) -> str:
    return f"{frames} frames x {clips * crops} views ({clips} clips x {crops} crops) @ {crop}, one timed"
