"""The manifest: a row for every annotated video, accepted or rejected, with the reason."""

from pathlib import Path

import pandas as pd

# What a column holds is described at vtn.data.decoding.Outcome; numbers are 0 and texts "" where unknown.
COLUMNS: dict[str, str] = {
    "video": "str",
    "label": "str",
    "split": "str",
    "group": "str",
    "status": "str",
    "accepted": "bool",
    "reason": "str",
    "frames": "int64",
    "frames_decoded": "int64",
    "frames_expected": "int64",
    "width": "int64",
    "height": "int64",
    "fps": "float64",
    "seconds": "float64",
    "rotation": "int64",
    "codec": "str",
    "shard": "int64",
    "sha256": "str",
}


def write(manifest: pd.DataFrame, path: Path) -> None:
    """Write the rows as csv, sorted by video, all at once or not at all."""
    partial = path.with_name(path.name + ".partial")
    rows = manifest[list(COLUMNS)].sort_values("video")
    rows.to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")
    partial.replace(path)


def read(path: Path) -> pd.DataFrame:
    """Read a manifest; raises ValueError where it is absent or lacks a column."""
    if not path.is_file():
        raise ValueError(f"manifest {path} not found: run `dvc repro decode`")
    # Without keep_default_na=False a class called NA or null would become a gap.
    rows = pd.read_csv(path, dtype=dict(COLUMNS), keep_default_na=False, encoding="utf-8")  # type: ignore[arg-type]
    if absent := [name for name in COLUMNS if name not in rows]:
        raise ValueError(f"manifest {path} lacks the column {', '.join(absent)}: run `dvc repro decode` anew")
    return rows[list(COLUMNS)]
