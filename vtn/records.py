"""A run's directory as plain values: what tracking uploads, read without MLflow."""

import csv
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vtn import config, identity

HISTORY = "history.csv"
METRICS = "metrics.json"
CURVES = "curves.png"
ARTIFACTS = (identity.RUN_FILE, METRICS, "*.csv", "*.png")
# These have a place of their own in MLflow; everything else of run.json becomes a tag.
NOT_TAGS = ("uid", "name", "experiment", "started", "params", "data", "packages", "parent")


@dataclass(frozen=True)
class Epoch:
    """One row of history.csv; `ended` in milliseconds since 1970."""

    number: int
    ended: int
    values: dict[str, float]


@dataclass(frozen=True)
class Record:
    """What a run's directory says. Times are milliseconds since 1970; `ended` is None until it is whole.

    A training is whole when its curves are drawn; the evaluation of its model continues the same run.
    """

    directory: Path
    uid: str
    name: str
    experiment: str
    parent: str | None
    started: int
    ended: int | None
    params: dict[str, str]
    tags: dict[str, str]
    data: dict[str, Any]
    epochs: tuple[Epoch, ...]
    metrics: dict[str, float]
    artifacts: tuple[Path, ...]


def read(directory: Path) -> Record:
    """Read a run's directory, finished or not; ValueError where run.json or another file is absent or damaged."""
    try:
        run = identity.read(directory)
        started = round(datetime.fromisoformat(run["started"]).timestamp() * 1000)
        numbers, texts = _final(directory / METRICS)
        ended = _ended(directory, run["kind"])
        params = _as_text(config.flatten(run["params"]))
        # A trained model is evaluated after its training, again and again, but MLflow never changes a param.
        again = run["kind"] == "train"
        asked = {key: params.pop(key) for key in list(params) if again and key.startswith("evaluate.")}
        return Record(
            directory=directory,
            uid=run["uid"],
            name=run["name"],
            experiment=run["experiment"],
            parent=run.get("parent"),
            started=started,
            ended=ended,
            params=params,
            tags=_as_text(_tags(run)) | texts | (asked if numbers else {}),
            data=run["data"],
            epochs=tuple(_epochs(directory / HISTORY, started)),
            metrics=numbers,
            artifacts=tuple(sorted(path for pattern in ARTIFACTS for path in directory.glob(pattern))),
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"{directory}: {identity.RUN_FILE} or {METRICS} is not JSON: {error}") from None
    except KeyError as error:
        raise ValueError(
            f"{directory / identity.RUN_FILE} lacks {error}: it is not a run of VTN Lab"
        ) from None


def find(roots: Iterable[Path]) -> list[Path]:
    """The run directories under `roots`, each after the directories of its parent's run."""
    found = sorted({path.parent for root in roots for path in root.rglob(identity.RUN_FILE)})
    parents: dict[str, str | None] = {}
    uids: dict[Path, str | None] = {}
    for directory in found:
        run = _peek(directory)
        uids[directory] = run.get("uid")
        parents[run.get("uid", "")] = run.get("parent")

    def depth(directory: Path) -> int:
        steps, uid = 0, uids[directory]
        while uid is not None and steps <= len(parents):
            steps, uid = steps + 1, parents.get(uid)
        return steps

    return sorted(found, key=depth)


def metric_name(name: str) -> str:
    """`name` with the characters that MLflow refuses in a metric replaced."""
    return re.sub(r"[^\w/.\- ]", "_", name)


def _peek(directory: Path) -> dict[str, Any]:
    """run.json, or nothing where it is damaged: `read` explains that when its turn comes."""
    try:
        return identity.read(directory)
    except ValueError:
        return {}


def _tags(run: Mapping[str, Any]) -> dict[str, Any]:
    rest = config.flatten({key: value for key, value in run.items() if key not in NOT_TAGS})
    return {key: value for key, value in rest.items() if value is not None}


def _as_text(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as they would be written in params.yaml."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in values.items()
    }


def _ended(directory: Path, kind: str) -> int | None:
    """When the last result was written; a study has no numbers of its own and is whole at any time."""
    patterns = {"study": ("*.*",), "train": (METRICS, CURVES)}.get(kind, (METRICS,))
    finals = [path for pattern in patterns for path in directory.glob(pattern)]
    times = [path.stat().st_mtime_ns // 10**6 for path in finals]
    return max(times, default=None)


def _final(path: Path) -> tuple[dict[str, float], dict[str, str]]:
    """The numbers and the texts of metrics.json, nested ones under dotted names."""
    if not path.exists():
        return {}, {}
    values = config.flatten(json.loads(path.read_text()))
    numbers = {
        metric_name(key): float(value)
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    return numbers, {key: value for key, value in values.items() if isinstance(value, str)}


def _epochs(path: Path, started: int) -> Iterable[Epoch]:
    if not path.exists():
        return
    ended = float(started)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            values = {metric_name(key): float(value) for key, value in row.items() if value}
            number = int(values.pop("epoch"))
            ended += 1000 * values.get("seconds", 0.0)
            finite = {key: value for key, value in values.items() if math.isfinite(value)}
            yield Epoch(number, round(ended), finite)
