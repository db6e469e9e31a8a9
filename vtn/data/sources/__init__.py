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
        if share > 0 and not (frame["split"] == split).any():
            raise ValueError(
                f"dataset.{split}_share: {share:g} cannot be met: no video can leave training without its class "
                f"losing the last one; add videos or groups, or set dataset.{split}_share=0"
            )
    return frame
