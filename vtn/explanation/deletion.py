"""The deletion check: does the answer suffer more without the frames of highest weight than without random ones?

After the deletion metric of RISE (Petsiuk et al. 2018), on frames in place of pixels. Attention alone proves
nothing, since what a layer does with the frames it weighs highly may not reach the answer. A frame that the model
was shown several times goes with all its copies: one that stayed would leave everything to be seen.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vtn.model.vtn import VTN

FEWEST_FRAMES = 3
SHARES = np.arange(1, 10) / 10
RANDOM_ORDERS = 40
# The share of random orders that must be milder than that of the weights before we call it more than chance.
SURE = 0.95
# Probabilities closer than this are the same to us: rounding moves them too.
MARGIN = 0.005
# The share that is put into words.
TOLD = 0.3
# Frames that are encoded at a time, over all sequences of a batch.
BUDGET = 16_384

Weights = NDArray[np.floating]


class Shown(NamedTuple):
    """What a model was shown of one video, in order: S times one of its T different frames."""

    features: Tensor  # (1, S, D)
    positions: Tensor  # (1, S) ids
    frames: NDArray[np.int64]  # (S,) of 0 to T - 1


@dataclass(frozen=True)
class Deletion:
    """Probabilities of the class `label`, first of all T `frames`, then without `removed` (Q,) of them.

    `highest` and `lowest` (Q,) go by `importance`, `layers` (L, Q) by the weights of one layer each, highest
    first; `random` (R, Q) by R random orders.
    """

    label: str
    frames: int
    whole: float
    removed: NDArray[np.int64]
    highest: Weights
    lowest: Weights
    layers: Weights
    random: Weights

    @property
    def shares(self) -> Weights:
        """Removed shares of the frames, (Q,)."""
        return self.removed / self.frames

    @property
    def area(self) -> float:
        """Area between the random and the highest curve over its width: positive, the weights tell something."""
        return float(self._lost(self.highest) - self._lost(self.random).mean())

    @property
    def layer_areas(self) -> Weights:
        """The same for the weights of each layer alone, (L,)."""
        areas: Weights = self._lost(self.layers) - self._lost(self.random).mean()
        return areas

    @property
    def milder(self) -> int:
        """How many of the random orders take away less of the answer than the order of the weights does."""
        return int((self._lost(self.random) < self._lost(self.highest) - MARGIN).sum())

    @property
    def telling(self) -> bool:
        """Whether the weights tell more than chance: 95 % of the random orders are milder."""
        return self.milder >= SURE * len(self.random)

    @property
    def moved(self) -> bool:
        """Whether any removal, random or by weight, changed the answer on average."""
        return bool(np.abs(self._lost(np.vstack([self.random, self.highest]))).max() > MARGIN)

    def _lost(self, left: Weights) -> Weights:
        """Mean fall of probability over the removed share, (...,) of curves (..., Q) that begin at `whole`."""
        shares = np.concatenate([[0], self.shares])
        fallen = np.concatenate([np.zeros((*left.shape[:-1], 1)), self.whole - left], axis=-1)
        mean: Weights = np.trapezoid(fallen, shares, axis=-1) / shares[-1]
        return mean

    def sentence(self) -> str:
        """What removing about 30 % of the frames does, in one sentence."""
        at = int(np.abs(self.shares - TOLD).argmin())
        draws = self.random[:, at]
        return (
            f"Removing the {self.shares[at]:.0%} of the frames with the highest weights takes P({self.label}) "
            f"from {self.whole:.2f} to {self.highest[at]:.2f}; as many random frames: {draws.mean():.2f} "
            f"({draws.min():.2f} to {draws.max():.2f} in {len(draws)} draws); the lowest weights: "
            f"{self.lowest[at]:.2f}."
        )

    def verdict(self) -> str:
        """What follows from all removals, in one sentence; `telling` in words."""
        if not self.moved:
            return "No verdict: whichever frames are removed, the answer stays as it is."
        gap = (
            f"on average over all removals P is {gap_from_random(self.area)}; "
            f"{self.milder} of {len(self.random)} random orders are milder."
        )
        if self.telling:
            return f"The weights tell more than chance: {gap}"
        if self.area > MARGIN and 2 * self.milder > len(self.random):
            return f"The weights seem to matter, but that may be chance: {gap}"
        return f"The weights tell no more than chance here: {gap}"


def gap_from_random(area: float) -> str:
    """An area in words, as in "P is ..."."""
    return f"{abs(area):.2f} {'below' if area >= 0 else 'above'} that of random ones"


def importance(weights: Weights) -> Weights:
    """One number a frame, (T,): the mean over layers and heads of the weights (L, N, T) that CLS gives it.

    All layers, since the first one looks before anything was compared and the last one at frames that have
    mixed with their neighbours; fixed before any check was seen.
    """
    mean: Weights = weights.mean(axis=(0, 1))
    return mean


def check(
    model: VTN, shown: Shown, weights: Weights, *, labels: tuple[str, ...], seed: int = 0
) -> Deletion | None:
    """Take frames away by weight and at random, and ask the temporal part again; None below 3 different frames.

    Args:
        model: in evaluation mode, on the device of the features.
        shown: the features do not change, since the backbone sees each frame alone; frames that stay keep their ids.
        weights: (L, N, T) of CLS.
        labels: the K classes; the one most probable with all frames is followed.
        seed: of the random orders.
    """
    frames = weights.shape[-1]
    if frames < FEWEST_FRAMES:
        return None
    # The first frame alone too: what hangs on one frame shows there.
    removed = np.unique([1, *np.rint(SHARES * frames).clip(1, frames - 1).astype(np.int64)])
    by_weight = np.argsort(-importance(weights), kind="stable")
    by_layer = np.argsort(-weights.mean(axis=1), axis=1, kind="stable")
    at_random = np.random.default_rng(seed).permuted(np.tile(np.arange(frames), (RANDOM_ORDERS, 1)), axis=1)
    orders = np.vstack([by_weight, by_weight[::-1], by_layer, at_random])  # (2 + L + R, T)
    whole = probabilities(model, shown, np.ones((1, len(shown.frames)), dtype=np.bool_))[0]
    answer = int(whole.argmax())
    steps = tqdm(removed, desc="deletion check", unit="share", leave=False, disable=None)
    kept = (_marks(orders[:, count:], frames)[:, shown.frames] for count in steps)
    left = np.stack(
        [probabilities(model, shown, marks)[:, answer] for marks in kept], axis=1
    )  # (2 + L + R, Q)
    return Deletion(
        label=labels[answer],
        frames=frames,
        whole=float(whole[answer]),
        removed=removed,
        highest=left[0],
        lowest=left[1],
        layers=left[2:-RANDOM_ORDERS],
        random=left[-RANDOM_ORDERS:],
    )


def _marks(numbers: NDArray[np.int64], frames: int) -> NDArray[np.bool_]:
    """Frames by number (M, K) as marks (M, T)."""
    marks = np.zeros((len(numbers), frames), dtype=np.bool_)
    np.put_along_axis(marks, numbers, values=True, axis=1)
    return marks


@torch.inference_mode()
def probabilities(model: VTN, shown: Shown, kept: NDArray[np.bool_]) -> Weights:
    """Probabilities (M, K) of M sequences that hold only what is kept (M, S), in the video's order.

    Each sequence is as short as a video of those frames alone: what was removed leaves no gap behind.
    """
    found = []
    longest = int(kept.sum(axis=1).max())
    # What stays moves to the front in its order; shorter sequences are padded to the longest one.
    order = np.argsort(~kept, axis=1, kind="stable")[:, :longest]
    real = np.take_along_axis(kept, order, axis=1)
    batch = max(1, BUDGET // longest)
    for start in range(0, len(kept), batch):
        rows = torch.from_numpy(order[start : start + batch]).to(shown.features.device)  # (M', S')
        own = torch.from_numpy(real[start : start + batch]).to(shown.features.device)
        mask = None if bool(own.all()) else own  # without one, attention needs less memory
        clip = model.encode_time(shown.features[0, rows], shown.positions[0, rows], mask)  # (M', E)
        found.append(model.classify(clip).double().softmax(dim=-1).cpu().numpy())
    return np.concatenate(found)
