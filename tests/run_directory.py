"""Run directories as the stages leave them, for the tests of tracking."""

import json
from pathlib import Path
from typing import Any

from vtn import identity
from vtn.sections import Params


def write_run(directory: Path, *, uid: str, epochs: int = 0, kind: str = "train", **more: Any) -> Path:
    """A run that has finished `epochs` epochs but has no final numbers yet."""
    directory.mkdir(parents=True, exist_ok=True)
    run = identity.describe(
        kind=kind,
        name=f"run {uid}",
        experiment="motions",
        params=Params().model_dump(mode="json"),
        data={"name": "motions", "fingerprint": "ab" * 32},
        device="a small CPU",
    )
    identity.write(directory, {**run, "uid": uid, **more})
    if epochs:
        write_epochs(directory, epochs)
    return directory


def write_epochs(directory: Path, epochs: int) -> None:
    """history.csv of so many epochs."""
    rows = [f"{number},{1 / number},0.1,3.0,{number / 10}" for number in range(1, epochs + 1)]
    (directory / "history.csv").write_text(
        "\n".join(["epoch,train_loss,learning_rate,seconds,val_top1", *rows, ""])
    )


def finish(directory: Path, **numbers: Any) -> None:
    """metrics.json, which makes a run whole."""
    (directory / "metrics.json").write_text(json.dumps(numbers))
