"""The runs on disk that MLflow may lack, for `vtn log-runs`."""

import json
from collections.abc import Iterable
from pathlib import Path

from vtn import records
from vtn.sections import TrackingConfig
from vtn.tracking import Tracker


def upload_all(roots: Iterable[Path], config: TrackingConfig, *, model: Path) -> bool:
    """Upload every run under `roots`, parents first, one line a run; `model` goes to the run that trained it.

    Returns whether all of them are in MLflow now. Raises ValueError where there is no run, or tracking is off.
    """
    if not config.enabled:
        raise ValueError(
            "tracking.enabled: false uploads nothing; set it to true, or add -S tracking.enabled=true"
        )
    roots = list(roots)
    directories = records.find(roots)
    if not directories:
        raise ValueError(f"no run.json under {', '.join(map(str, roots))}: run `dvc repro` first")
    tracker, trained = Tracker(config), _trained_by(model)
    return all([_upload(directory, tracker, model, trained) for directory in directories])


def _upload(directory: Path, tracker: Tracker, model: Path, trained: str | None) -> bool:
    try:
        record = records.read(directory)
    except ValueError as error:
        print(f"{directory}: not uploaded: {error}")
        return False
    run_id = tracker.sync(directory, model=model if record.uid == trained else None)
    where = f"{record.experiment} / {record.name}, run {run_id}" if run_id else "not uploaded"
    print(f"{directory}: {where}")
    return run_id is not None


def _trained_by(model: Path) -> str | None:
    """The uid of the run that trained a checkpoint, None where there is no checkpoint."""
    try:
        uid: str | None = json.loads((model / "model.json").read_text()).get("run")
    except (OSError, ValueError):
        return None
    return uid
