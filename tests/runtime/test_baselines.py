"""Baselines have the sizes that their authors and the VTN paper publish; counted without storage or arithmetic."""

import pytest
import torch

from vtn.evaluation.benchmark import multiply_adds
from vtn.runtime import baselines
from vtn.runtime.baselines import BASELINES
from vtn.runtime.contenders import PAPER

# 1e6 parameters and 1e9 multiply-adds a view of 256 x 256 (transformers: 224 x 224) pixels: pytorchvideo's model
# zoo for I3D; tables 6 and 7 for NL-I3D; the papers of SlowFast, X3D, TimeSformer, ViViT and VideoMAE.
PUBLISHED = {
    "i3d_r50": (28.04, 37.5),
    "nl_i3d_r101": (54, 2625 / 30),
    "slowfast_8x8_r50": (34.57, 65.7),
    "slowfast_16x8_r101": (53.77, 213),
    "x3d_m": (3.8, 6.2),
    "timesformer_b": (121.4, 196),
    "vivit_b": (88.9, 455.2),
    "videomae_b": (87, 180),
}
NAMED = {baseline.name: baseline for baseline in BASELINES}


def need_library(name):
    wanted = NAMED[name].package
    pytest.importorskip(wanted, reason=f"{wanted} is not installed: run `make baselines`")


def sizes(baseline, frames):
    """1e6 parameters, 1e9 multiply-adds of one pass."""
    with torch.device("meta"), torch.inference_mode():
        model = baseline.build(frames).eval()
        clip = torch.empty(1, frames, 3, baseline.crop, baseline.crop)
        assert model(clip).shape == (1, baselines.CLASSES)
        return sum(p.numel() for p in model.parameters()) / 1e6, multiply_adds(lambda: model(clip)) / 1e9


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_view_has_the_published_size(name):
    need_library(name)
    assert sizes(NAMED[name], NAMED[name].frames) == pytest.approx(PUBLISHED[name], rel=0.02)


@pytest.mark.parametrize("name", ["slowfast_8x8_r50", "slowfast_16x8_r101"])
def test_slowfast_has_exactly_the_multiply_adds_of_table_7(name):
    need_library(name)
    baseline = NAMED[name]
    assert int(baseline.views * sizes(baseline, baseline.frames)[1]) == PAPER[name].views_gmacs
    assert int(sizes(baseline, 252)[1]) == PAPER[name].whole_gmacs  # 250 frames are no multiple of four


@pytest.mark.parametrize("name", [baseline.name for baseline in BASELINES if baseline.multiple])
def test_a_convolutional_one_takes_a_whole_video(name):
    need_library(name)
    view, whole = (sizes(NAMED[name], frames) for frames in (NAMED[name].frames, 252))
    assert whole[0] == view[0]
    assert whole[1] == pytest.approx(view[1] * 252 / NAMED[name].frames, rel=0.02)


def test_the_slow_pathway_sees_every_fourth_frame():
    frames = torch.randn(2, 8, 3, 4, 4)
    slow, fast = baselines._pathways(frames)
    assert torch.equal(fast, frames.transpose(1, 2))
    assert torch.equal(slow, frames[:, [0, 4]].transpose(1, 2))
