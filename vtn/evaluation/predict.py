"""Class probabilities of videos: views through the model, averaged by video."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vtn.data.clips import EvaluationClips, loader
from vtn.model.vtn import VTN
from vtn.training.augmentation import Prepare

TOP = 5


@dataclass(frozen=True)
class Predictions:
    """V videos in the order of their split: labels (V,) and probabilities (V, K)."""

    videos: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]


@torch.inference_mode()
def predict(
    model: VTN,
    clips: EvaluationClips,
    *,
    prepare: Prepare,
    batch_size: int,
    workers: int,
    device: torch.device,
) -> Predictions:
    """Softmax of every view, averaged over the views of a video."""
    was_training = model.training
    model.eval()
    videos: list[str] = []
    labels: list[int] = []
    views: list[NDArray[np.float64]] = []
    batches = loader(clips, batch_size=batch_size, workers=workers)
    for batch in tqdm(batches, desc="evaluate", unit="batch", leave=False, disable=None):
        on_device = batch.to(device)
        logits = model(prepare(on_device.inputs), on_device.positions, on_device.mask)  # (B, K)
        views.append(logits.double().softmax(dim=-1).cpu().numpy())
        videos += batch.videos
        labels += batch.labels.tolist()
    model.train(was_training)
    return _by_video(videos, labels, np.concatenate(views))


def table(predictions: Predictions, annotated: pd.DataFrame, class_names: tuple[str, ...]) -> pd.DataFrame:
    """One row for every annotated video (columns video, label, status, reason), evaluated or not.

    Adds predicted, confidence, correct, top5 (class names) and top5_probabilities; a video that
    could not be evaluated has none of them and its reason instead.
    """
    best = np.argsort(-predictions.probabilities, axis=1, kind="stable")[:, :TOP]  # (V, 5)
    names = np.array(class_names)
    answers = pd.DataFrame(
        {
            "video": predictions.videos,
            "predicted": names[best[:, 0]],
            "confidence": np.take_along_axis(predictions.probabilities, best[:, :1], axis=1)[:, 0],
            "correct": best[:, 0] == predictions.labels,
            "top5": [list(names[row]) for row in best],
            "top5_probabilities": list(np.take_along_axis(predictions.probabilities, best, axis=1)),
        }
    )
    return annotated[["video", "label", "status", "reason"]].merge(answers, on="video", how="left")


def _by_video(videos: list[str], labels: list[int], views: NDArray[np.float64]) -> Predictions:
    """Average the rows of equal videos; views of one video lie side by side."""
    starts = [row for row, video in enumerate(videos) if row == 0 or video != videos[row - 1]]
    counts = np.diff([*starts, len(videos)])
    means = np.add.reduceat(views, starts, axis=0) / counts[:, None]  # (V, K)
    return Predictions(tuple(videos[row] for row in starts), np.array(labels)[starts], means)
