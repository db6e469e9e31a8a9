"""Run a study of sweeps/studies: `python sweeps/run.py --study frames_vs_acc`."""

import argparse
import json
import shlex
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from vtn import config, experiment, keys, runs, study
from vtn.command import add_debug, add_params, asked_keys, explained
from vtn.data.corpus import Corpus
from vtn.evaluation import plots
from vtn.sections import Params
from vtn.tracking import Tracker

STUDIES = Path("sweeps/studies")
RESULTS = Path("sweeps/results")
TABLE = "results.csv"
MODEL = Path("models/vtn")


def sweep(params: Params, name: str, *, asked: Collection[str] = ()) -> None:
    """Run what is missing of a study, then print and draw it; dotted keys `asked` for count more than its base."""
    from sweeps.search import Search

    wanted = study.load(name, STUDIES).yielding_to(asked)
    study.check_rows(params, wanted, file=STUDIES / f"{name}.yaml")
    corpus = Corpus.open()
    backbone, weights = None, ""
    if wanted.features == "trained":
        backbone, card = experiment.load_backbone(params, corpus, MODEL)
        weights = card.sha256
    key = keys.study_key(params, corpus, weights=weights, study=wanted.model_dump(mode="json"))
    directory = RESULTS / name / key
    search = Search(wanted, key=name, seed=params.seed, directory=directory)
    tracker = Tracker(params.tracking)
    if len(search.complete) >= search.wanted:
        print(f"{name} is complete: {len(search.complete)} trials in {directory}")
    else:
        parent = runs.begin(directory, params, corpus, kind="study", name=name, study=name)
        tracker.sync(directory)

        def evaluate(number: int, changes: dict[str, Any]) -> dict[str, Any]:
            title = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in changes.items())
            print(f"trial {number}: {title}")
            return runs.record(
                directory / "trials" / f"{number:03d}",
                study.row_params(params, wanted, changes, row=f"trial {number}"),
                corpus,
                fits=directory / "fits",
                backbone=backbone,
                sync=tracker.sync,
                kind="trial",
                name=f"{name}: {title}",
                parent=parent["uid"],
                study=name,
                trial=number,
            )

        search.run(evaluate)
    if search.complete:
        _report(search, wanted, directory)
        tracker.sync(directory)
        _show(directory, search)


def _report(search: Any, wanted: study.Study, directory: Path) -> None:
    """results.csv and pareto.png of the trials that are complete."""
    best = {trial.number for trial in search.best()}
    rows = [
        {
            "trial": search.first_attempt(trial),
            **trial.params,
            **{name: trial.user_attrs["numbers"][name] for name in wanted.report},
            "best": trial.number in best,
            "videos": int(trial.user_attrs["numbers"]["videos"]),
            "seed": trial.user_attrs["numbers"]["seed"],
            "protocol": trial.user_attrs["numbers"]["protocol"],
        }
        for trial in sorted(search.complete, key=partial(_place, wanted))
    ]
    table = pd.DataFrame(rows)
    runs.write_table(directory / TABLE, table)
    labels = table[list(wanted.space)].astype(str).agg(", ".join, axis=1)
    plots.accuracy_vs_speed(
        table.assign(label=labels),
        path=directory / "pareto.png",
        protocol=f"{wanted.title} ({', '.join(wanted.space)})",
        videos=int(table["videos"].iloc[0]),
        cost=wanted.cost,
    )


def _place(wanted: study.Study, trial: Any) -> list[float]:
    """Where a trial stands in the table: by its values' places in their lists, or as numbers of their ranges."""
    return [
        values.index(trial.params[key]) if isinstance(values, tuple) else trial.params[key]
        for key, values in wanted.space.items()
    ]


def _show(directory: Path, search: Any) -> None:
    table = pd.read_csv(directory / TABLE)
    print(table.drop(columns=["protocol", "seed"]).to_string(index=False, float_format="{:.3f}".format))
    for trial in search.best():
        settings = " ".join(
            f"-S {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in trial.params.items()
        )
        print(f"best: trial {search.first_attempt(trial)}: {settings}")
    print(f"{directory / TABLE}, {directory}/pareto.png")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="A killed sweep goes on with the same command; several may work on one study at the same time.",
    )
    known = ", ".join(sorted(path.stem for path in STUDIES.glob("*.yaml")))
    parser.add_argument("--study", required=True, metavar="NAME", help=f"one of {known}")
    add_params(parser)
    add_debug(parser)
    options = parser.parse_args()
    with explained(debug=options.debug):
        params = config.load(options.params, options.overrides)
        sweep(params, options.study, asked=asked_keys(options.overrides))


if __name__ == "__main__":
    main()
