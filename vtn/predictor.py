"""A trained model applied to video files: decoded, resized and sampled as in evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import simplejpeg
import torch
from numpy.typing import NDArray

from vtn.data import decoding, sampling
from vtn.data.clips import square_crop
from vtn.data.resizing import resize, stored_size
from vtn.device import choose
from vtn.model import checkpoint
from vtn.sections import MachineConfig
from vtn.training.augmentation import preparation

TOP = 5


@dataclass(frozen=True)
class Prediction:
    """Classes of one video, the most probable first, with probabilities 0 to 1.

    `frames` went through the model, out of `seconds` of video; `note` says where the file is damaged.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    frames: int
    seconds: float
    note: str = ""

    def top(self, count: int) -> dict[str, float]:
        """The `count` most probable classes and their probabilities, in that order."""
        return dict(list(zip(self.labels, self.probabilities, strict=True))[:count])


class Predictor:
    """A checkpoint, loaded once, that answers for one video file at a time."""

    def __init__(self, directory: Path, device: torch.device) -> None:
        """Raises ValueError where `directory` holds no whole checkpoint."""
        self._device = device
        self._model, self.card = checkpoint.load(directory, device=device)
        assert self._model.backbone is not None
        self._prepare = preparation(self._model.backbone.normalise)
        self._decode = self.card.decode

    @torch.inference_mode()
    def predict(self, path: Path) -> Prediction:
        """Classify a whole video in one pass; raises ValueError with a one-line reason where that is impossible."""
        card = self.card
        times, pictures, outcome = self._read(path)
        indices = sampling.whole_video(times, rate=card.rate, max_frames=card.max_frames)
        frames = square_crop(_pixels(pictures, indices), crop=card.clip.crop, at=0.5)  # (T, H, W, C)
        inputs = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))  # (T, C, H, W)
        positions = torch.from_numpy(sampling.position_ids(times[indices], rate=card.clip.position_rate))
        batch = self._prepare(inputs[None].to(self._device))  # (1, T, C, H, W)
        logits = self._model(batch, positions[None].to(self._device))  # (1, K)
        probabilities = logits[0].double().softmax(dim=-1).cpu().numpy()
        order = np.argsort(-probabilities, kind="stable")
        return Prediction(
            labels=tuple(card.classes[number] for number in order),
            probabilities=tuple(float(probabilities[number]) for number in order),
            frames=len(indices),
            seconds=outcome.seconds,
            note="" if outcome.status is decoding.Status.OK else f"{outcome.status}: {outcome.reason}",
        )

    def _read(self, path: Path) -> tuple[sampling.Times, list[bytes], decoding.Outcome]:
        """Times (F,) in seconds and frames of a video, coded as the frame store does, so that long ones fit."""
        video = decoding.decode(path, max_fps=self._decode.max_fps)
        coded = list(self._coded(video))
        outcome = video.outcome()
        if not outcome.status.accepted:
            raise ValueError(f"{outcome.status}: {outcome.reason}")
        return np.array([seconds for seconds, _ in coded]), [jpeg for _, jpeg in coded], outcome

    def _coded(self, video: decoding.Decoding) -> Iterator[tuple[float, bytes]]:
        size: tuple[int, int] | None = None
        for seconds, frame in video:
            size = size or stored_size(*frame.shape[:2], short_side=self._decode.short_side)
            pixels = resize(frame, size)
            yield (
                seconds,
                simplejpeg.encode_jpeg(pixels, quality=self._decode.quality, colorsubsampling="420"),
            )


class TablePredictor:
    """What mlflow.pyfunc calls: a DataFrame of paths in, a DataFrame of answers out."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, table: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row for each path in column `video`: label, probability, top5 (a dict) or else error.

        `params` is a part of MLflow's interface; there are none.
        """
        return pd.DataFrame(
            [self._row(video) for video in table["video"]],
            columns=["video", "label", "probability", "top5", "error"],
        )

    def _row(self, video: str) -> dict[str, Any]:
        try:
            found = self._predictor.predict(Path(video))
        except ValueError as error:
            return {"video": video, "error": str(error)}
        return {
            "video": video,
            "label": found.labels[0],
            "probability": found.probabilities[0],
            "top5": found.top(TOP),
        }


def _load_pyfunc(directory: str) -> TablePredictor:
    """MLflow's name for the function that opens a logged model."""
    return TablePredictor(Predictor(Path(directory), choose(MachineConfig())))


def _pixels(pictures: list[bytes], indices: sampling.Indices) -> NDArray[np.uint8]:
    """The chosen frames, (T, H, W, C)."""
    return np.stack([simplejpeg.decode_jpeg(pictures[index]) for index in indices])
