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
    params = config.with_overrides(params, {"train.epochs": params.ablate.epochs})
    rows = [(row, study.row_params(params, wanted, row.set, row=row.name)) for row in wanted.rows]
    corpus = Corpus.open()
    trained, card = checkpoint.load(MODEL)
    backbone = trained.backbone if wanted.features == "trained" else None
    work = WORK / f"{table}-{_key(params, wanted, corpus, card.sha256)}"
    tracker = Tracker(params.tracking)

    results = []
    for number, (row, row_params) in enumerate(rows):
        print(f"{table} {number + 1}/{len(rows)}: {row.name}")
        numbers = runs.record(
            work / "rows" / f"{number:02d}",
            row_params,
            corpus,
            fits=work / "fits",
            backbone=backbone,
            sync=tracker.sync,
            kind="ablation",
            name=f"{table}: {row.name}",
            parent=card.run,
            table=table,
            row=row.name,
        )
        results.append({"row": row.name, **numbers})
    _publish(pd.DataFrame(results), wanted, table, work)


def _publish(results: pd.DataFrame, wanted: study.Study, table: str, work: Path) -> None:
    """Write the table, its picture and the rows' records; print the table."""
    results["delta_top1"] = results["top1"] - results["top1"].iloc[0]
    videos = results["videos"].iloc[0]
    results = results[["row", *wanted.report, "delta_top1", "seed", "protocol"]]
    records = REPORTS / table
    shutil.rmtree(records, ignore_errors=True)
    shutil.copytree(work / "rows", records)
    plots.accuracy_vs_speed(
        results.rename(columns={"row": "label"}),
        path=REPORTS / f"{table}.png",
        protocol=f"{wanted.title}: {results['protocol'].iloc[0]}",
        videos=int(videos),
    )
    results.to_csv(REPORTS / f"{table}.csv", index=False)
    print(results.drop(columns=["protocol"]).to_string(index=False, float_format="{:.3f}".format))
    shutil.rmtree(work)


def _key(params: Params, wanted: study.Study, corpus: Corpus, weights: str) -> str:
    """Rows of an interrupted table are taken up again only if all that they depend on is the same."""
    facts = params.model_dump(mode="json", exclude={"machine", "tracking", "ablate", "decode", "dataset"})
    return identity.content_key(
        {
            **facts,
            "study": wanted.model_dump(mode="json"),
            "data": corpus.fingerprint,
            "weights": weights,
            "code": identity.code_hash(),
        }
    )


if __name__ == "__main__":
    run_stage(ablate, "table")
