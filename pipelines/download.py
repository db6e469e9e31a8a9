"""Stage `download`: make the videos available and write their annotations."""

from pathlib import Path

from vtn import config
from vtn.command import run_stage
from vtn.sections import Params

ANNOTATIONS = Path("data/annotations.csv")
VIDEOS = Path("data/videos")
TABLES = Path("pipelines/ablations")


def download(params: Params) -> None:
    """Write data/annotations.csv; the embedded data set also draws its clips into data/videos."""
    # The processes that draw clips import this module: they must not wait for pandas.
    from vtn.data import annotations, sources

    config.check_tables(params, TABLES)  # told now, not after the training
    frame = sources.prepare(params.dataset, seed=params.seed, workers=params.machine.workers)
    # DVC declares the directory as an output whatever the source; a user's folder leaves it empty.
    VIDEOS.mkdir(parents=True, exist_ok=True)
    annotations.write(frame, ANNOTATIONS)
    classes = annotations.class_names(frame)
    counts = ", ".join(f"{(frame['split'] == split).sum()} {split}" for split in annotations.SPLITS)
    print(f"{ANNOTATIONS}: {len(frame)} videos of {len(classes)} classes ({counts})")


if __name__ == "__main__":
    run_stage(download)
