"""Stage ablate@TABLE: pipelines/ablations/TABLE.yaml -> reports/ablations/TABLE.csv, .png and run records."""

import shutil
from pathlib import Path

import pandas as pd

from vtn import config, identity, runs, study
from vtn.command import run_stage
from vtn.data.corpus import Corpus
from vtn.evaluation import plots
from vtn.model import checkpoint
from vtn.sections import Params
from vtn.tracking import Tracker

TABLES = Path("pipelines/ablations")
MODEL = Path("models/vtn")
REPORTS = Path("reports/ablations")
WORK = Path("work/ablate")


def ablate(params: Params, table: str) -> None:
    """Fill one ablation table: train, evaluate and measure each row, and compare it with the first."""
    wanted = study.load(table, TABLES)
    params = config.for_ablation(params)
    study.check_rows(params, wanted, file=TABLES / f"{table}.yaml")
    rows = [(row, study.row_params(params, wanted, row.set, row=row.name)) for row in wanted.rows]
    corpus = Corpus.open()
    trained, card = checkpoint.load(MODEL)
    checkpoint.check_fits(card, params, classes=corpus.classes, data=corpus.fingerprint)
    backbone = trained.backbone if wanted.features == "trained" else None
    family = WORK / _key(params, corpus, card.sha256)
    for other in WORK.glob("*"):  # of other params, data or weights: its rows cannot be taken up again
        if other != family:
            shutil.rmtree(other)
    rows_directory = family / identity.content_key({table: wanted.model_dump(mode="json")})
    tracker = Tracker(params.tracking)

    results = []
    for number, (row, row_params) in enumerate(rows):
        print(f"{table} {number + 1}/{len(rows)}: {row.name}")
        numbers = runs.record(
            rows_directory / f"{number:02d}",
            row_params,
            corpus,
            fits=family / "fits",
            backbone=backbone,
            sync=tracker.sync,
            kind="ablation",
            name=f"{table}: {row.name}",
            parent=card.run,
            table=table,
            row=row.name,
        )
        results.append({"row": row.name, **numbers})
    _publish(pd.DataFrame(results), wanted, table, rows_directory)


def _publish(results: pd.DataFrame, wanted: study.Study, table: str, rows_directory: Path) -> None:
    """Write the table, its picture and the rows' records; print the table."""
    results["delta_top1"] = results["top1"] - results["top1"].iloc[0]
    videos = results["videos"].iloc[0]
    results = results[["row", *wanted.report, "delta_top1", "seed", "protocol"]]
    records = REPORTS / table
    shutil.rmtree(records, ignore_errors=True)
    shutil.copytree(rows_directory, records)
    plots.accuracy_vs_speed(
        results.rename(columns={"row": "label"}),
        path=REPORTS / f"{table}.png",
        protocol=f"{wanted.title}: {results['protocol'].iloc[0]}",
        videos=int(videos),
    )
    results.to_csv(REPORTS / f"{table}.csv", index=False)
    print(results.drop(columns=["protocol"]).to_string(index=False, float_format="{:.3f}".format))
    shutil.rmtree(rows_directory)


def _key(params: Params, corpus: Corpus, weights: str) -> str:
    """Rows and trainings of an interrupted table count only where all that they depend on is the same."""
    facts = params.model_dump(mode="json", include={"clip", "model", "train", "evaluate", "seed"})
    code = identity.code_hash()
    return identity.content_key({**facts, "data": corpus.fingerprint, "weights": weights, "code": code})


if __name__ == "__main__":
    run_stage(ablate, "table")
