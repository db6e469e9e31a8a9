"""Clips as tensors: what a training step and an evaluation pass draw from a store."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vtn.data import sampling
from vtn.data.sampling import WholeVideo
from vtn.sections import AugmentConfig, ClipConfig, ViewsConfig


class Source(Protocol):
    """Frames (T, H, W, C) uint8 or features (T, D) float32 of videos, by frame index."""

    def times(self, video: str) -> sampling.Times:
        """Seconds from the first frame; (F,)."""

    def read(self, video: str, indices: Sequence[int] | sampling.Indices) -> NDArray[np.generic]:
        """The frames or features at `indices`."""


@dataclass(frozen=True)
class Labelled:
    """Videos of one split and their class numbers."""

    videos: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.videos)


@dataclass(frozen=True)
class Sample:
    """One clip: frames (T, C, H, W) uint8 0-255 or features (T, D), with position ids (T,)."""

    inputs: Tensor
    positions: Tensor
    label: int
    video: str


@dataclass(frozen=True)
class Batch:
    """B clips padded to the longest: inputs (B, T, ...), positions (B, T), mask (B, T) True where real."""

    inputs: Tensor
    positions: Tensor
    mask: Tensor
    labels: Tensor
    videos: tuple[str, ...]

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, from which copies to a GPU need not wait."""
        tensors = (self.inputs, self.positions, self.mask, self.labels)
        inputs, positions, mask, labels = (tensor.pin_memory() for tensor in tensors)
        return Batch(inputs, positions, mask, labels, self.videos)

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on `device`."""
        return Batch(
            self.inputs.to(device, non_blocking=True),
            self.positions.to(device, non_blocking=True),
            self.mask.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.videos,
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack clips, shorter ones padded with zeros at the end."""
    longest = max(len(sample.positions) for sample in samples)
    first = samples[0].inputs
    inputs = first.new_zeros((len(samples), longest, *first.shape[1:]))  # (B, T, ...)
    positions = torch.zeros((len(samples), longest), dtype=torch.int64)
    mask = torch.zeros((len(samples), longest), dtype=torch.bool)
    for row, sample in enumerate(samples):
        length = len(sample.positions)
        inputs[row, :length] = sample.inputs
        positions[row, :length] = sample.positions
        mask[row, :length] = True
    labels = torch.tensor([sample.label for sample in samples])
    return Batch(inputs, positions, mask, labels, tuple(sample.video for sample in samples))


class TrainingClips(Dataset[Sample]):
    """Random clips; item (epoch, index) depends on nothing but the seed and those two numbers."""

    def __init__(
        self, source: Source, labelled: Labelled, *, clip: ClipConfig, augment: AugmentConfig, seed: int
    ) -> None:
        self._source, self._labelled = source, labelled
        self._clip, self._augment, self._seed = clip, augment, seed

    def __len__(self) -> int:
        return len(self._labelled)

    def __getitem__(self, item: tuple[int, int]) -> Sample:
        epoch, index = item
        rng = np.random.default_rng((self._seed, epoch, index))
        video = self._labelled.videos[index]
        times = self._source.times(video)
        indices = sampling.random_clip(times, frames=self._clip.frames, seconds=self._clip.seconds, rng=rng)
        inputs = self._source.read(video, indices)
        if inputs.ndim == 4:  # frames, not features
            inputs = random_crop(inputs, crop=self._clip.crop, augment=self._augment, rng=rng)
        positions = sampling.position_ids(times[indices], rate=self._clip.position_rate)
        return _sample(inputs, positions, self._labelled, index)


@dataclass(frozen=True)
class View:
    """One look at a video: which frames, their position ids, and where along the longer side the crop lies (0 to 1)."""

    index: int
    frames: sampling.Indices
    positions: sampling.Indices
    crop_at: float


class EvaluationClips(Dataset[Sample]):
    """Every view of every video, in order; nothing random."""

    def __init__(
        self, source: Source, labelled: Labelled, views: Sequence[View], *, clip: ClipConfig
    ) -> None:
        self._source, self._labelled, self._views, self._clip = source, labelled, views, clip

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, item: int) -> Sample:
        view = self._views[item]
        video = self._labelled.videos[view.index]
        inputs = self._source.read(video, view.frames)
        if inputs.ndim == 4:
            inputs = square_crop(inputs, crop=self._clip.crop, at=view.crop_at)
        return _sample(inputs, view.positions, self._labelled, view.index)


def whole_video_views(
    source: Source, labelled: Labelled, reading: WholeVideo, *, shuffle_seed: int | None = None
) -> list[View]:
    """One view a video, all of it; with `shuffle_seed` its frames change places, and the positions stay."""
    views = []
    for index, video in enumerate(labelled.videos):
        frames, positions = reading.choose(source.times(video))
        if shuffle_seed is not None:
            frames = np.random.default_rng((shuffle_seed, index)).permutation(frames)
        views.append(View(index, frames, positions, 0.5))
    return views


def multi_views(source: Source, labelled: Labelled, *, clip: ClipConfig, views: ViewsConfig) -> list[View]:
    """`views.clips` training-length clips times `views.crops` crops a video."""
    crops = (0.5,) if views.crops == 1 else (0.0, 0.5, 1.0)
    return [
        View(index, frames, sampling.position_ids(times[frames], rate=clip.position_rate), crop_at)
        for index, times in enumerate(map(source.times, labelled.videos))
        for frames in sampling.even_clips(times, frames=clip.frames, seconds=clip.seconds, clips=views.clips)
        for crop_at in crops
    ]


def square_crop(frames: NDArray[np.generic], *, crop: int, at: float) -> NDArray[np.generic]:
    """Cut (T, H, W, C) to (T, crop, crop, C), centred on the short side, `at` (0 to 1) along the longer."""
    height, width = frames.shape[1:3]
    along = (at, 0.5) if height > width else (0.5, at)
    top, left = round((height - crop) * along[0]), round((width - crop) * along[1])
    return frames[:, top : top + crop, left : left + crop]


def random_crop(
    frames: NDArray[np.generic], *, crop: int, augment: AugmentConfig, rng: np.random.Generator
) -> NDArray[np.generic]:
    """Cut one random square region, resize it to `crop` and perhaps mirror it; the same for all frames."""
    side = round(crop * rng.uniform(augment.min_scale, augment.max_scale))
    top = rng.integers(frames.shape[1] - side + 1)
    left = rng.integers(frames.shape[2] - side + 1)
    region = frames[:, top : top + side, left : left + side]
    if side != crop:
        how = cv2.INTER_AREA if side > crop else cv2.INTER_LINEAR
        region = np.stack([cv2.resize(frame, (crop, crop), interpolation=how) for frame in region])
    return region[:, :, ::-1] if rng.random() < augment.horizontal_flip else region


class EpochSampler(Sampler[tuple[int, int]]):
    """A random order for each epoch, known from the seed alone; yields (epoch, index)."""

    def __init__(self, length: int, *, seed: int) -> None:
        self._length, self._seed = length, seed
        self.epoch = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self._seed, self.epoch)).permutation(self._length)
        return ((self.epoch, int(index)) for index in order)


def loader(
    dataset: Dataset[Sample], *, batch_size: int, workers: int, sampler: EpochSampler | None = None
) -> DataLoader[Sample]:
    """Batches of `dataset`; with a sampler the last, smaller batch of an epoch is kept too."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0 and sampler is not None,
        pin_memory=torch.cuda.is_available(),
    )


def _sample(
    inputs: NDArray[np.generic], positions: sampling.Indices, labelled: Labelled, index: int
) -> Sample:
    if inputs.ndim == 4:
        inputs = inputs.transpose(0, 3, 1, 2)  # (T, H, W, C) -> (T, C, H, W)
    return Sample(
        torch.from_numpy(np.ascontiguousarray(inputs)),
        torch.from_numpy(positions),
        labelled.labels[index],
        labelled.videos[index],
    )
