"""A trained model applied to video files: decoded, resized and sampled as in evaluation, in bounded memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vtn.data import decoding, sampling
from vtn.data.clips import square_crop
from vtn.data.spool import Spool
from vtn.device import choose
from vtn.model import checkpoint
from vtn.sections import MachineConfig
from vtn.training.augmentation import preparation

TOP = 5
# Frames that go through the backbone at a time: a shorter video goes in one pass, hours in as much memory.
CHUNK = 64


@dataclass(frozen=True)
class Prediction:
    """Classes of one video, the most probable first, with probabilities 0 to 1.

    `frames` went through the model, `different` of them, out of `seconds` of video; `note` says where the file is
    damaged.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    frames: int
    different: int
    seconds: float
    note: str = ""

    @property
    def extent(self) -> str:
        """How much the model was shown, in words."""
        copies = f" ({self.different} different)" if self.different < self.frames else ""
        return f"{self.frames} frame{'s' * (self.frames > 1)}{copies} of {round(self.seconds, 3):.10g} s"

    def top(self, count: int) -> dict[str, float]:
        """The `count` most probable classes and their probabilities, in that order."""
        return dict(list(zip(self.labels, self.probabilities, strict=True))[:count])


@dataclass(frozen=True)
class Watched:
    """What the backbone made of a video: `features` (1, T, D) at `positions` (1, T), shown at `seconds` (T,)."""

    features: Tensor
    positions: Tensor
    seconds: sampling.Times
    outcome: decoding.Outcome
    spool: Spool
    indices: sampling.Indices

    def frames(self, which: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Whole stored frames (M, H, W, C) of the T frames watched; while the video is being watched."""
        return self.spool.read(self.indices[which])


class Predictor:
    """A checkpoint, loaded once, that answers for one video file at a time."""

    def __init__(
        self, directory: Path, device: torch.device, *, max_frames: int | None = None, chunk: int = CHUNK
    ) -> None:
        """Load `directory`; `max_frames` replaces that of the checkpoint, the most frames seen of one video.

        Raises ValueError where `directory` holds no whole checkpoint.
        """
        self._device = device
        self.model, self.card = checkpoint.load(directory, device=device)
        assert self.model.backbone is not None
        self._prepare = preparation(self.model.backbone.normalise)
        self._whole_video = sampling.WholeVideo(
            rate=self.card.rate,
            max_frames=max_frames or self.card.max_frames,
            position_rate=self.card.clip.position_rate,
            sampling=self.card.sampling,
        )
        self._chunk = chunk

    @torch.inference_mode()
    def predict(self, path: Path) -> Prediction:
        """Classify a whole video; raises ValueError with a one-line reason where that is impossible."""
        with self.watch(path) as watched:
            clip = self.model.encode_time(watched.features, watched.positions)
            return self.prediction(self.model.classify(clip), watched)

    def prediction(self, logits: Tensor, watched: Watched) -> Prediction:
        """What logits (1, K) say of a video; ValueError where they are no numbers."""
        if not bool(logits.isfinite().all()):
            raise ValueError("the model answers with numbers that are not finite: its weights are damaged")
        probabilities = logits[0].double().softmax(dim=-1).cpu().numpy()
        order = np.argsort(-probabilities, kind="stable")
        outcome = watched.outcome
        return Prediction(
            labels=tuple(self.card.classes[number] for number in order),
            probabilities=tuple(float(probabilities[number]) for number in order),
            frames=len(watched.indices),
            different=len(np.unique(watched.indices)),
            seconds=outcome.seconds,
            note="" if outcome.status is decoding.Status.OK else f"{outcome.status}: {outcome.reason}",
        )

    @contextmanager
    def watch(self, path: Path) -> Iterator[Watched]:
        """Decode a video and take its frames through the backbone, a chunk at a time.

        Raises ValueError with a one-line reason where the file holds no video that can be used.
        """
        with Spool(self.card.decode) as spool:
            outcome = self._decode(path, spool)
            times = spool.times
            indices, positions = self._whole_video.choose(times)
            yield Watched(
                self._features(spool, indices)[None],
                torch.from_numpy(positions)[None].to(self._device),
                times[indices],
                outcome,
                spool,
                indices,
            )

    def _decode(self, path: Path, spool: Spool) -> decoding.Outcome:
        video = decoding.decode(path, max_fps=self.card.decode.max_fps)
        for seconds, frame in tqdm(
            video, desc=f"decode {path.name}", unit="frame", leave=False, disable=None
        ):
            spool.append(seconds, frame)
        outcome = video.outcome()
        if not outcome.status.accepted:
            raise ValueError(f"{outcome.status}: {outcome.reason}")
        return outcome

    @torch.inference_mode()
    def _features(self, spool: Spool, indices: sampling.Indices) -> Tensor:
        """Features (T, D) of the frames at `indices`."""
        chunks = []
        starts = range(0, len(indices), self._chunk)
        for start in tqdm(starts, desc="backbone", unit="chunk", leave=False, disable=None):
            frames = square_crop(
                spool.read(indices[start : start + self._chunk]), crop=self.card.clip.crop, at=0.5
            )
            pixels = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))  # (M, C, H, W)
            inputs = self._prepare(pixels[None].to(self._device))  # (1, M, C, H, W)
            chunks.append(self.model.encode_frames(inputs)[0])
        return torch.cat(chunks)


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
