"""The stage `decode`: annotated videos become the frame store."""

from pathlib import Path

from vtn.command import run_stage
from vtn.data import annotations
from vtn.data.packing import pack
from vtn.sections import Params

ANNOTATIONS = Path("data/annotations.csv")
FRAMES = Path("data/frames")


def decode(params: Params) -> None:
    """Decode every annotated video once into data/frames, keeping what is already there."""
    rows = pack(
        annotations.read(ANNOTATIONS),
        params.dataset.videos,
        FRAMES,
        decode=params.decode,
        workers=params.machine.workers,
    )
    statuses = ", ".join(f"{count} {status}" for status, count in rows["status"].value_counts().items())
    print(f"{FRAMES}: {rows['frames'].sum()} frames of {len(rows)} videos ({statuses})")


if __name__ == "__main__":
    run_stage(decode)
