"""Stage ablate@TABLE: pipelines/ablations/TABLE.yaml -> reports/ablations/TABLE.csv, .png and run records."""

import shutil
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from vtn import config, experiment, identity, keys, runs, study
from vtn.command import run_stage
from vtn.data.corpus import Corpus
from vtn.evaluation import plots
from vtn.sections import Params
from vtn.tracking import Tracker

TABLES = Path("pipelines/ablations")
MODEL = Path("models/vtn")
REPORTS = Path("reports/ablations")
WORK = Path("work/ablate")


def ablate(params: Params, table: str, *, asked: Collection[str] = ()) -> None:
    """Fill one ablation table: train, evaluate and measure each row, and compare it with the first."""
    wanted = study.load(table, TABLES).yielding_to(asked)
    params = config.for_ablation(params, asked=asked)
    study.check_rows(params, wanted, file=TABLES / f"{table}.yaml")
    rows = [(row, study.row_params(params, wanted, row.set, row=row.name)) for row in wanted.rows]
    corpus = Corpus.open()
    backbone, card = experiment.load_backbone(params, corpus, MODEL)
    tracker = Tracker(params.tracking)
    family = WORK / keys.study_key(params, corpus, weights=card.sha256)
    rows_directory = family / identity.content_key({table: wanted.model_dump(mode="json")})

    results = []
    for number, (row, row_params) in enumerate(rows):
        print(f"{table} {number + 1}/{len(rows)}: {row.name}")
        numbers = runs.record(
            rows_directory / f"{number:02d}",
            row_params,
            corpus,
            fits=family / "fits",
            backbone=backbone if wanted.features == "trained" else None,
            sync=tracker.sync,
            kind="ablation",
            name=f"{table}: {row.name}",
            parent=card.run,
            table=table,
            row=row.name,
        )
        results.append({"row": row.name, **numbers})
    runs.discard(WORK, keep=family, end=tracker.end)
    _publish(pd.DataFrame(results), wanted, table, rows_directory)


def _publish(results: pd.DataFrame, wanted: study.Study, table: str, rows_directory: Path) -> None:
    """Write the table, its picture and the rows' records; print the table."""
    results["delta_top1"] = results["top1"] - results["top1"].iloc[0]
    columns = ["row", *wanted.report, "delta_top1", "videos", "seed", "protocol"]
    results = results[list(dict.fromkeys(columns))]
    records, aside = REPORTS / table, REPORTS / f"{table}.partial"
    for old in (records, aside):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(rows_directory, aside)
    aside.rename(records)
    plots.accuracy_vs_speed(
        results.rename(columns={"row": "label"}),
        path=REPORTS / f"{table}.png",
        protocol=f"{wanted.title}: {results['protocol'].iloc[0]}",
        videos=int(results["videos"].iloc[0]),
    )
    runs.write_table(REPORTS / f"{table}.csv", results)
    print(results.drop(columns=["protocol"]).to_string(index=False, float_format="{:.3f}".format))
    shutil.rmtree(rows_directory)


if __name__ == "__main__":
    run_stage(ablate, "table", tell_asked=True)
