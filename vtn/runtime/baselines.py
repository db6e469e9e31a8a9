"""Models of others that the VTN paper compares with, and later ones, for measuring alone: random weights.

The only import of pytorchvideo and transformers, both in the extra `baselines`; of pytorchvideo its model
constructors alone, since its transforms fail to import under today's torchvision.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

CLASSES = 400
# SlowFast's slow pathway sees every fourth frame of the fast one.
SLOW_STRIDE = 4
# I3D's temporal kernels: in some blocks the first convolution spans three frames.
MOVING, STILL = (3, 1, 1), (1, 1, 1)
VIDEO, TRANSFORMERS = "pytorchvideo", "transformers"


@dataclass(frozen=True)
class Baseline:
    """A model, and the clips that its authors' evaluation averages over.

    `build` takes T and gives a module from frames (B, T, C, H, W) to logits (B, K).
    """

    name: str
    build: Callable[[int], nn.Module]
    package: str  # that `build` imports
    frames: int  # of one clip, as they enter the model
    crop: int  # pixels a side
    clips: int  # along time
    crops: int  # along the longer side
    multiple: int | None  # of frames that one pass over a whole video needs; None: clips alone

    @property
    def views(self) -> int:
        """Passes over one video."""
        return self.clips * self.crops


class OfFrames(nn.Module):
    """Another library's model behind the interface of ours: frames (B, T, C, H, W) to logits (B, K)."""

    def __init__(self, network: nn.Module, arrange: Callable[[Tensor], Any] = lambda frames: frames) -> None:
        super().__init__()
        self.network = network
        self.arrange = arrange

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (B, K) of normalised frames (B, T, C, H, W)."""
        found = self.network(self.arrange(frames))
        logits: Tensor = getattr(found, "logits", found)  # transformers wrap them
        return logits


def i3d_r50(frames: int) -> nn.Module:
    """I3D 8x8 on ResNet-50, of PySlowFast's model zoo: 73.5 top-1 as in table 6."""
    from pytorchvideo.models.hub import i3d_r50 as network

    return OfFrames(network(pretrained=False, head_pool_kernel_size=(frames // 2, 7, 7)), _channels_first)


def nl_i3d_r101(frames: int) -> nn.Module:
    """I3D 8x8 on ResNet-101 with five non-local blocks: 54.4 M and 87.6 G a view (tables 6 and 7: 54, 87.5).

    The blocks come after the second and fourth of the third stage, and the second, fourth and sixth of the
    fourth, in which only the first six have temporal kernels, every other one.
    """
    from pytorchvideo.layers.nonlocal_net import create_nonlocal
    from pytorchvideo.models.resnet import create_resnet

    network = create_resnet(
        model_depth=101,
        stem_conv_kernel_size=(5, 7, 7),
        stage1_pool=nn.MaxPool3d,
        stage_conv_a_kernel_size=(
            MOVING,
            [MOVING, STILL],
            [MOVING, STILL] * 3 + [STILL] * 17,
            [STILL, MOVING],
        ),
        head_pool_kernel_size=(frames // 2, 7, 7),
    )
    for stage, width, places in ((3, 512, (1, 3)), (4, 1024, (1, 3, 5))):
        blocks = network.blocks[stage].res_blocks
        for place in places:
            blocks[place] = nn.Sequential(blocks[place], create_nonlocal(dim_in=width, dim_inner=width // 2))
    return OfFrames(network, _channels_first)


def slowfast_8x8_r50(frames: int) -> nn.Module:
    """SlowFast 8x8 on ResNet-50."""
    from pytorchvideo.models.hub import slowfast_r50 as network

    return OfFrames(network(pretrained=False, head_pool_kernel_sizes=_head_pools(frames)), _pathways)


def slowfast_16x8_r101(frames: int) -> nn.Module:
    """SlowFast 16x8 on ResNet-101: 53.8 M; table 6 has 60, the published size of its form with non-local blocks."""
    from pytorchvideo.models.slowfast import create_slowfast

    fourth = [MOVING] * 6 + [STILL] * 17
    network = create_slowfast(
        model_depth=101,
        slowfast_fusion_conv_kernel_size=(5, 1, 1),
        stage_conv_a_kernel_sizes=((STILL, STILL, fourth, MOVING), (MOVING, MOVING, fourth, MOVING)),
        head_pool_kernel_sizes=_head_pools(frames),
    )
    return OfFrames(network, _pathways)


def x3d_m(frames: int) -> nn.Module:
    """X3D-M."""
    from pytorchvideo.models.x3d import create_x3d

    return OfFrames(create_x3d(input_clip_length=frames, input_crop_size=224), _channels_first)


def timesformer_b(frames: int) -> nn.Module:
    """TimeSformer-B with divided attention."""
    from transformers import TimesformerConfig, TimesformerForVideoClassification

    config = TimesformerConfig(num_frames=frames, num_labels=CLASSES)
    return OfFrames(TimesformerForVideoClassification(config))


def vivit_b(frames: int) -> nn.Module:
    """ViViT-B/16x2 with joint attention (its model 1)."""
    from transformers import VivitConfig, VivitForVideoClassification

    return OfFrames(VivitForVideoClassification(VivitConfig(num_frames=frames, num_labels=CLASSES)))


def videomae_b(frames: int) -> nn.Module:
    """The ViT-B that VideoMAE fine-tunes."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    return OfFrames(VideoMAEForVideoClassification(VideoMAEConfig(num_frames=frames, num_labels=CLASSES)))


# Clips and crops are those of each model's own paper; 30 views of 256 x 256 pixels where the VTN paper has it.
# The non-local affinities of 250 frames (128,000 places squared) fit into no memory at hand.
BASELINES = (
    Baseline("i3d_r50", i3d_r50, VIDEO, frames=8, crop=256, clips=10, crops=3, multiple=1),
    Baseline("nl_i3d_r101", nl_i3d_r101, VIDEO, frames=8, crop=256, clips=10, crops=3, multiple=None),
    Baseline(
        "slowfast_8x8_r50",
        slowfast_8x8_r50,
        VIDEO,
        frames=32,
        crop=256,
        clips=10,
        crops=3,
        multiple=SLOW_STRIDE,
    ),
    Baseline(
        "slowfast_16x8_r101",
        slowfast_16x8_r101,
        VIDEO,
        frames=64,
        crop=256,
        clips=10,
        crops=3,
        multiple=SLOW_STRIDE,
    ),
    Baseline("x3d_m", x3d_m, VIDEO, frames=16, crop=256, clips=10, crops=3, multiple=1),
    Baseline(
        "timesformer_b", timesformer_b, TRANSFORMERS, frames=8, crop=224, clips=1, crops=3, multiple=None
    ),
    Baseline("vivit_b", vivit_b, TRANSFORMERS, frames=32, crop=224, clips=4, crops=3, multiple=None),
    Baseline("videomae_b", videomae_b, TRANSFORMERS, frames=16, crop=224, clips=5, crops=3, multiple=None),
)


def _channels_first(frames: Tensor) -> Tensor:
    return frames.transpose(1, 2)  # (B, C, T, H, W)


def _pathways(frames: Tensor) -> list[Tensor]:
    """The slow and the fast pathway's frames."""
    fast = _channels_first(frames)
    return [fast[:, :, ::SLOW_STRIDE], fast]


def _head_pools(frames: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """What SlowFast's heads average over at once: all of either pathway's frames."""
    return (frames // SLOW_STRIDE, 7, 7), (frames, 7, 7)
