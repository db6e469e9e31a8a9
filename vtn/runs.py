"""The directory of a run: begun, filled epoch by epoch, whole when metrics.json is there."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vtn import experiment, identity, keys, records
from vtn.data.corpus import Corpus
from vtn.device import choose
from vtn.evaluation.benchmark import device_name
from vtn.model.backbone import Backbone
from vtn.records import HISTORY, METRICS
from vtn.sections import Params


def record(
    directory: Path,
    params: Params,
    corpus: Corpus,
    *,
    fits: Path,
    backbone: Backbone | None,
    sync: Callable[[Path], object],
    **facts: Any,
) -> dict[str, Any]:
    """Run one experiment as a row of a table or a trial of a sweep; returns its numbers.

    A row that is whole is not run again, and rows that train alike share one training under
    `fits`. `facts` go to `begin`; `sync` uploads the directory when the row is whole.
    """
    if (directory / METRICS).exists():
        sync(directory)  # perhaps killed before it was uploaded
        whole: dict[str, Any] = json.loads((directory / METRICS).read_text())
        return whole
    begin(directory, params, corpus, **facts)
    numbers = experiment.run(
        params,
        corpus,
        work=fits / keys.fit_key(params, corpus, trained_backbone=backbone),
        on_epoch=lambda history: write_history(directory, history),
        trained_backbone=backbone,
    )
    write_metrics(directory, numbers)
    sync(directory)
    return numbers


def begin(
    directory: Path, params: Params, corpus: Corpus, *, kind: str, name: str, **more: Any
) -> dict[str, Any]:
    """The run.json of `directory`: the one that an interrupted run left, or a new one.

    `more` are facts of this kind of run: parent (uid), study, trial, row.
    """
    if (directory / identity.RUN_FILE).exists():
        return identity.read(directory)
    directory.mkdir(parents=True, exist_ok=True)
    run = {**describe(params, corpus, kind=kind, name=name), **more}
    identity.write(directory, run)
    return run


def describe(params: Params, corpus: Corpus, *, kind: str, name: str) -> dict[str, Any]:
    """The identity of a run on this data set that starts now."""
    return identity.describe(
        kind=kind,
        name=name,
        experiment=experiment_name(params),
        params=params.model_dump(mode="json"),
        data={"name": data_name(params), "fingerprint": corpus.fingerprint},
        device=device_name(choose(params.machine)),
    )


def title(params: Params) -> str:
    """What a person calls a training: backbone, frames, depth and attention."""
    temporal, clip = params.model.temporal, params.clip
    attention = f"window {temporal.window}" if temporal.attention == "window" else temporal.attention
    backbone = params.model.backbone.name + (" frozen" if params.model.backbone.frozen else "")
    return f"{backbone}, {clip.frames} frames in {clip.seconds:g} s, {temporal.layers} layers, {attention}"


def experiment_name(params: Params) -> str:
    """The MLflow experiment: `tracking.experiment`, or the data set's name."""
    return params.tracking.experiment or data_name(params)


def data_name(params: Params) -> str:
    """`motions`, or the name of the user's folder."""
    dataset = params.dataset
    return dataset.name if dataset.name != "folder" else dataset.folder.resolve().name


def write_history(directory: Path, history: list[dict[str, float]]) -> None:
    """Write history.csv, atomically."""
    write_table(directory / HISTORY, pd.DataFrame(history))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a csv file, atomically, also where several processes write it at once."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    table.to_csv(aside, index=False)
    aside.replace(path)


def write_metrics(directory: Path, numbers: Mapping[str, Any]) -> None:
    """Write metrics.json, atomically: whoever finds it finds a finished run."""
    partial = directory / f"{METRICS}.partial"
    partial.write_text(json.dumps(numbers, indent=2) + "\n")
    partial.replace(directory / METRICS)


def discard(work: Path, *, keep: Path, end: Callable[[Path], object]) -> None:
    """Remove what unfinished runs of other params, data or code left under `work`; `end` is told of each."""
    for other in work.glob("*"):
        if other != keep:
            for directory in records.find([other]):
                end(directory)
            shutil.rmtree(other)


def publish(work: Path, report: Path) -> None:
    """Copy the run's record (not its training state) to the place where people look."""
    report.mkdir(parents=True, exist_ok=True)
    for name in (identity.RUN_FILE, HISTORY):
        shutil.copy2(work / name, report / name)
