"""What CLS looked at in a video, with the frames to show and the check that it mattered."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtn.data import sampling
from vtn.data.clips import square_crop
from vtn.explanation import deletion
from vtn.explanation.deletion import FEWEST_FRAMES, Deletion, Shown, Weights, importance
from vtn.model.checkpoint import Card
from vtn.model.vtn import VTN
from vtn.predictor import Prediction, Predictor

STRIP = 12
MOMENTS = 6
# Moments nearer than this share of the video count as one.
APART = 1 / 20
# A weight below this is shown as none.
LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class Explanation:
    """How L layers of N heads weighed T different frames, shown at `seconds` (T,).

    A frame that the model was shown several times has the sum of its weights. `weights` (L, N, T) and `itself`
    (L, N), the share that CLS kept for itself, sum to one over the tokens. `pictures` holds the frames (H, W, C) as
    the model saw them, by number, that `strip` and `moments` name.
    """

    video: str
    model: str
    prediction: Prediction
    seconds: sampling.Times
    weights: Weights
    itself: Weights
    deletion: Deletion | None
    pictures: dict[int, NDArray[np.uint8]]

    @property
    def importance(self) -> Weights:
        """One weight a frame, (T,)."""
        return importance(self.weights)

    @property
    def moments(self) -> sampling.Indices:
        """The frames of highest weight that lie apart, the highest first."""
        return moments(self.importance, self.seconds)

    @property
    def strip(self) -> sampling.Indices:
        """Frames evenly spread over the video's time."""
        return evenly_spread(self.seconds)

    @property
    def words(self) -> tuple[str, ...]:
        """What the deletion check says, or why there is none."""
        if self.deletion is None:
            return (
                f"No deletion check: it needs at least {FEWEST_FRAMES} different frames, not {len(self.seconds)}.",
            )
        return self.deletion.sentence(), self.deletion.verdict()


def explain(predictor: Predictor, video: Path, *, model: str) -> Explanation:
    """Watch a video and look at the attention; `model` says in words what it came from.

    Raises ValueError with a one-line reason where the video cannot be used.
    """
    network, card = predictor.model, predictor.card
    with predictor.watch(video) as watched:
        weights, itself, logits = attention(network, watched.features, watched.positions)
        # Sampling by frame number repeats the frames of short videos, each copy beside the others.
        _, first, numbers = np.unique(watched.indices, return_index=True, return_inverse=True)
        shown = Shown(watched.features, watched.positions, numbers)
        weights, seconds = np.add.reduceat(weights, first, axis=-1), watched.seconds[first]
        drawn = np.union1d(evenly_spread(seconds), moments(importance(weights), seconds))
        frames = square_crop(watched.frames(first[drawn]), crop=card.clip.crop, at=0.5)
        return Explanation(
            video=video.name,
            model=model,
            prediction=predictor.prediction(logits, watched),
            seconds=seconds,
            weights=weights,
            itself=itself,
            deletion=deletion.check(network, shown, weights, labels=card.classes),
            pictures=dict(zip(drawn.tolist(), frames, strict=True)),
        )


@torch.inference_mode()
def attention(model: VTN, features: Tensor, positions: Tensor) -> tuple[Weights, Weights, Tensor]:
    """Weights of the frames (L, N, T) and of CLS itself (L, N), and the logits (1, K), of one video."""
    encoded = model.temporal.encode(features, positions)
    weights = torch.cat(encoded.cls_weights).double().cpu().numpy()  # (L, N, T+1)
    return weights[..., 1:], weights[..., 0], model.classify(encoded.clip)


def refuse_without_attention(card: Card) -> None:
    """Raise ValueError where the model's attention cannot tell one frame from another."""
    temporal = card.model.temporal
    if not temporal.layers:
        raise ValueError(
            "model.temporal.layers: 0 takes the mean of the frames: there is no attention to show; "
            "train with at least one layer"
        )
    if temporal.attention == "uniform":
        raise ValueError(
            "model.temporal.attention: uniform weighs every frame alike: there is nothing to show; "
            "train with window or full"
        )


def evenly_spread(seconds: sampling.Times) -> sampling.Indices:
    """For each of up to 12 equal stretches of the video the frame nearest to its middle."""
    edges = frame_edges(seconds)
    stretches = np.linspace(edges[0], edges[-1], min(STRIP, len(seconds)) + 1)
    middles = (stretches[1:] + stretches[:-1]) / 2
    nearest: sampling.Indices = np.abs(seconds - middles[:, None]).argmin(axis=1)
    return nearest


def moments(weights: Weights, seconds: sampling.Times) -> sampling.Indices:
    """Up to 6 frames by weight (T,), the highest first, none nearer to another than a twentieth of the video.

    Only frames above the average, and the highest in any case.
    """
    apart = (seconds[-1] - seconds[0]) * APART
    order = np.argsort(-weights, kind="stable")
    found = [int(order[0])]
    for frame in order[1:][weights[order[1:]] > weights.mean()].tolist():
        if np.all(np.abs(seconds[found] - seconds[frame]) >= apart):
            found.append(frame)
    return np.array(found[:MOMENTS], dtype=np.int64)


def frame_edges(seconds: sampling.Times) -> sampling.Times:
    """Where one frame's stretch of time ends and the next one's begins, (T+1,) seconds; one frame gets a second."""
    if len(seconds) == 1:
        return np.array([seconds[0] - 0.5, seconds[0] + 0.5])
    between = (seconds[1:] + seconds[:-1]) / 2
    first, last = 2 * seconds[0] - between[0], 2 * seconds[-1] - between[-1]
    return np.concatenate([[first], between, [last]])


def percent(share: float) -> str:
    """A weight as it is shown: three digits, since one frame of thousands gets little."""
    return f"{100 * share:.3g}%" if share >= LEAST_SHARE else "0%"


def clock(seconds: float) -> str:
    """A moment as it is shown: hundredths matter in clips, not in videos of minutes."""
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"
