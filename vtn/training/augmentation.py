"""uint8 clips to what the backbone reads, on the device: float, augmented (kornia), normalised."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vtn.sections import AugmentConfig

Prepare = Callable[[Tensor], Tensor]
"""(B, T, C, H, W) uint8 0-255 -> the same shape, float and normalised; features pass unchanged."""


def preparation(normalise: Callable[[Tensor], Tensor], augment: AugmentConfig | None = None) -> Prepare:
    """How a batch's inputs become the model's: with `augment` for training, without for evaluation.

    `normalise` takes frames in [0, 1] (`Backbone.normalise`).
    """
    change = None if augment is None else _augmentation(augment)

    def prepare(inputs: Tensor) -> Tensor:
        if inputs.dtype != torch.uint8:  # features, not frames
            return inputs
        frames = inputs.float().div_(255)  # (B, T, C, H, W) in [0, 1]
        return normalise(frames if change is None else change(frames))

    return prepare


def _augmentation(augment: AugmentConfig) -> nn.Module | None:
    """Colour, rotation and erasing, drawn once a clip; None where the recipe asks for none of them."""
    wanted = augment.colour_jitter or augment.rotation_degrees or augment.erasing
    if not wanted:
        return None
    import kornia.augmentation as K  # noqa: N812  (kornia's own name; its import costs seconds)

    steps: list[nn.Module] = []
    if strength := augment.colour_jitter:
        steps.append(K.ColorJitter(strength, strength, strength, strength / 4, p=0.8))
    if degrees := augment.rotation_degrees:
        steps.append(K.RandomRotation(degrees, p=1.0))
    if probability := augment.erasing:
        steps.append(K.RandomErasing(scale=(0.02, 0.2), p=probability))
    sequence: nn.Module = K.VideoSequential(*steps, data_format="BTCHW", same_on_frame=True)
    return sequence
