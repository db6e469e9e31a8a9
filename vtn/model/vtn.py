"""The Video Transformer Network: frames -> features -> clip vector -> logits."""

from torch import Tensor, nn

from vtn.model import backbone as backbones
from vtn.model.backbone import Backbone
from vtn.model.temporal import TemporalEncoder
from vtn.sections import HeadConfig, ModelConfig, TemporalConfig


class VTN(nn.Module):
    """Three steps, each usable alone (VTN paper, figure 1). Without a backbone it works on features."""

    def __init__(self, *, backbone: Backbone | None, temporal: TemporalEncoder, head: nn.Sequential) -> None:
        super().__init__()
        self.backbone = backbone
        self.temporal = temporal
        self.head = head

    def forward(self, inputs: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K) of normalised frames (B, T, C, H, W), or of features (B, T, D), at ids (B, T)."""
        features = inputs if inputs.ndim == 3 else self.encode_frames(inputs, mask)  # (B, T, D)
        clip = self.encode_time(features, positions, mask)  # (B, E)
        return self.classify(clip)

    def encode_frames(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, T, D) of normalised frames (B, T, C, H, W).

        Only real frames (mask (B, T) True) pass the backbone, so that padding never enters the statistics
        of a BatchNorm; the others get zeros. How many are real is known at run time alone: torch.compile takes
        frames with a mask in parts, everything else in one graph.
        """
        assert self.backbone is not None, "a VTN on features has no backbone"
        clips, length = frames.shape[:2]
        if mask is None or bool(mask.all()):
            features: Tensor = self.backbone(frames.flatten(0, 1))  # (B*T, D)
            return features.view(clips, length, -1)
        real = self.backbone(frames[mask])  # (M, D), M real frames
        features = real.new_zeros(clips, length, real.shape[-1])
        features[mask] = real
        return features

    def encode_time(self, features: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Clip vectors (B, E) of features (B, T, D) at position ids (B, T)."""
        clip: Tensor = self.temporal(features, positions, mask)
        return clip

    def classify(self, clip: Tensor) -> Tensor:
        """Raw logits (B, K) of clip vectors (B, E)."""
        logits: Tensor = self.head(clip)
        return logits


def build(config: ModelConfig, *, num_classes: int, crop: int) -> VTN:
    """A new VTN for frames of `crop` pixels a side; raises ValueError where the parts do not fit."""
    backbone = backbones.build(config.backbone, crop)
    return build_on_features(
        config, num_classes=num_classes, features=backbone.num_features, backbone=backbone
    )


def build_on_features(
    config: ModelConfig, *, num_classes: int, features: int, backbone: Backbone | None = None
) -> VTN:
    """A VTN whose temporal part takes `features` numbers a frame, with a backbone of that size or none."""
    check_heads(config.temporal, features)
    temporal = TemporalEncoder(features, config.temporal)
    return VTN(backbone=backbone, temporal=temporal, head=_head(temporal.width, config.head, num_classes))


def parameter_count(model: nn.Module) -> int:
    """How many numbers the model holds, trained or frozen."""
    return sum(parameter.numel() for parameter in model.parameters())


def check_heads(temporal: TemporalConfig, features: int) -> None:
    """Raise ValueError unless the heads share the encoder's width evenly."""
    width = temporal.width or features
    if temporal.layers and width % temporal.heads:
        fitting = [str(heads) for heads in range(1, min(width, 64) + 1) if width % heads == 0]
        origin = "model.temporal.width" if temporal.width else "the backbone's features"
        raise ValueError(
            f"model.temporal.heads: {temporal.heads} does not divide the width {width} ({origin}); "
            f"choose one of {', '.join(fitting)}"
        )


def _head(width: int, config: HeadConfig, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, config.hidden),
        nn.GELU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, num_classes),
    )
