"""A training small enough to run dozens of times: twelve videos of three classes, in memory."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from vtn.data.clips import EpochSampler, Labelled, TrainingClips, loader
from vtn.model.attention import Attention
from vtn.model.vtn import VTN, build, build_on_features
from vtn.sections import (
    AugmentConfig,
    BackboneConfig,
    ClipConfig,
    HeadConfig,
    MachineConfig,
    ModelConfig,
    TemporalConfig,
    TrainConfig,
)
from vtn.training.loop import Trainer

K, D, SIDE = 3, 8, 16
LABELLED = Labelled(tuple(f"{number % K}-{number}.mp4" for number in range(12)), tuple(range(K)) * 4)
CLIP = ClipConfig(frames=4, seconds=1.0, crop=SIDE)
MODEL = ModelConfig(
    temporal=TemporalConfig(layers=1, heads=2, feedforward=16, window=4, dropout=0.2, attention_dropout=0.1),
    head=HeadConfig(hidden=16, dropout=0.2),
)
SHORT = TrainConfig(epochs=3, batch_size=4, warmup_epochs=1, learning_rate=1e-2, precision="float32")


class Features:
    """The class's own direction, which noise of the video and the frame blurs; (T, D)."""

    def times(self, video):
        return np.arange(12) / 8

    def read(self, video, indices):
        noise = np.random.default_rng(list(video.encode())).standard_normal((12, D))
        return (np.eye(D)[int(video[0])] + 0.3 * noise)[np.asarray(indices)].astype(np.float32)


class Frames(Features):
    """Pictures whose third of the rows that is the class's own is light; (T, SIDE, SIDE, 3) uint8."""

    def read(self, video, indices):
        noise = np.random.default_rng(list(video.encode())).integers(60, size=(12, SIDE, SIDE, 3))
        noise[:, int(video[0]) * 5 : int(video[0]) * 5 + 5] += 180
        return noise[np.asarray(indices)].astype(np.uint8)


def model(*, frozen: bool | None = None) -> VTN:
    """The same weights every time; on features, or with `frozen` told, on frames."""
    torch.manual_seed(0)
    if frozen is None:
        return build_on_features(MODEL, num_classes=K, features=D)
    whole = build(MODEL.model_copy(update={"backbone": BackboneConfig()}), num_classes=K, crop=SIDE)
    if frozen:
        assert whole.backbone is not None
        whole.backbone.freeze()
    return whole


def without_dropout(trained: VTN) -> VTN:
    """The same model, which then gives the same answer in training and in evaluation."""
    for part in trained.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(part, Attention):
            part.dropout = 0.0
    return trained


def trainer(
    trained: VTN,
    work: Path,
    *,
    train: TrainConfig = SHORT,
    seed: int = 0,
    workers: int = 0,
    minutes: float = 0.0,
) -> Trainer:
    """A trainer of `trained` that saves its state after every update."""
    source = Features() if trained.backbone is None else Frames()
    clips = TrainingClips(source, LABELLED, clip=CLIP, augment=AugmentConfig(), seed=seed)
    batches = loader(
        clips, batch_size=train.batch_size, workers=workers, sampler=EpochSampler(len(clips), seed=seed)
    )
    work.mkdir(parents=True, exist_ok=True)
    machine = MachineConfig(device="cpu", checkpoint_minutes=minutes)
    return Trainer(trained, batches, train=train, machine=machine, seed=seed, work=work)


@torch.inference_mode()
def validate(candidate: VTN) -> dict[str, float]:
    """Top-1 and loss on the whole training videos, as features."""
    candidate.eval()
    read = Features().read
    inputs = torch.from_numpy(np.stack([read(video, range(12)) for video in LABELLED.videos]))  # (B, T, D)
    logits = candidate(inputs, torch.arange(12).expand(12, 12))
    labels = torch.tensor(LABELLED.labels)
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    return {"top1": (logits.argmax(dim=1) == labels).double().mean().item(), "loss": loss}


def unchanged(inputs: torch.Tensor) -> torch.Tensor:
    """Features need no preparation."""
    return inputs


def silent(history: list[dict[str, float]]) -> None:
    """Tell nobody about an epoch."""


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """What must repeat exactly."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def same_weights(one: VTN, other: VTN) -> bool:
    """Whether two models are equal bit for bit."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)
