"""A checkpoint and clips small enough for tests of what uses a trained model."""

from pathlib import Path

import numpy as np
import torch

from vtn.data.sources.motions import encode
from vtn.model import checkpoint, vtn
from vtn.model.checkpoint import Card
from vtn.sections import (
    ClipConfig,
    DecodeConfig,
    EvaluateConfig,
    HeadConfig,
    ModelConfig,
    Params,
    Sampling,
    TemporalConfig,
)

CLASSES = ("fall", "jump", "run", "sit", "walk", "wave")
SIDE = 32


def write_checkpoint(
    directory: Path, *, run: str | None = None, max_frames: int = 16, sampling: Sampling = "time"
) -> Card:
    """Random weights that are the same every time."""
    torch.manual_seed(0)
    params = Params(
        model=ModelConfig(
            temporal=TemporalConfig(layers=1, feedforward=32, window=4), head=HeadConfig(hidden=16)
        ),
        clip=ClipConfig(frames=4, seconds=1.0, crop=SIDE),
        decode=DecodeConfig(short_side=SIDE, max_fps=25.0),
        evaluate=EvaluateConfig(max_frames=max_frames, sampling=sampling),
    )
    model = vtn.build(params.model, num_classes=len(CLASSES), crop=SIDE)
    card = checkpoint.describe(model, params, classes=CLASSES, run=run)
    return checkpoint.save(directory, model, card)


def write_clip(path: Path, *, frames: int = 30, fps: int = 25) -> Path:
    """A bar that moves over a gradient, 48 x 64 pixels, H.264."""
    rows, columns = np.mgrid[:48, :64]
    still = np.stack([rows * 4, columns * 3, np.full_like(rows, 90)], axis=-1).astype(np.uint8)
    pictures = np.repeat(still[None], frames, axis=0)  # (T, H, W, C)
    for number in range(frames):
        pictures[number, :, (number * 3) % 58 : (number * 3) % 58 + 6] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(pictures, fps))
    return path
