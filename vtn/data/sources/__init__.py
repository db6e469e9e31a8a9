"""Where labelled videos come from: one module a source."""

from typing import TYPE_CHECKING

from vtn.sections import DatasetConfig

if TYPE_CHECKING:  # imported within, since the processes that draw clips import this package too
    import pandas as pd


def prepare(dataset: DatasetConfig, *, seed: int, workers: int | None) -> "pd.DataFrame":
    """Make the videos of `dataset` available and return their checked annotations, a split in every row.

    Raises ValueError if nothing can be trained or evaluated on them.
    """
    from vtn.data import annotations
    from vtn.data.sources import folder, motions

    match dataset.name:
        case "motions":
            frame = motions.prepare(dataset.motions, dataset.videos, seed=seed, workers=workers)
        case "folder":
            frame = folder.list_folder(dataset.folder, dataset.annotations)
    shares = {"val": dataset.val_share, "test": dataset.test_share}
    frame = annotations.assign_splits(frame, val_share=shares["val"], test_share=shares["test"], seed=seed)
    annotations.check(frame)
    for split, share in shares.items():
        if not (frame["split"] == split).any():
            _refuse_empty(split, share)
    return frame


def _refuse_empty(split: str, share: float) -> None:
    """Training cannot do without validation; without test videos, evaluation can take the split val."""
    named = f"name the split {split} of some videos in an annotations file"
    if share > 0:
        aside = ", or set dataset.test_share: 0 and evaluate.split: val" if split == "test" else ""
        raise ValueError(
            f"dataset.{split}_share: {share:g} cannot be met: no video can leave training without its class "
            f"losing the last one; add videos or groups, or {named}{aside}"
        )
    if split == "val":
        raise ValueError(
            "dataset.val_share: 0, but no video has the split val, on which training chooses its best epoch; "
            f"raise dataset.val_share, or {named}"
        )
