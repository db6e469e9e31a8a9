"""Stage train: data/frames -> models/vtn, reports/train."""

import shutil
from pathlib import Path

import pandas as pd

from vtn import experiment, keys, runs
from vtn.command import run_stage
from vtn.config import check_tables
from vtn.data.corpus import Corpus
from vtn.evaluation import plots
from vtn.model import checkpoint
from vtn.records import CURVES
from vtn.sections import Params
from vtn.tracking import Tracker

MODEL = Path("models/vtn")
REPORT = Path("reports/train")
WORK = Path("work/train")
TABLES = Path("pipelines/ablations")


def train(params: Params) -> None:
    """Train on data/frames; the best epoch's model goes to models/vtn."""
    check_tables(params, TABLES)  # as an empty split, told now, not after the training
    corpus = Corpus.open()
    for split in ("train", "val", params.evaluate.split):
        corpus.labelled(split)  # an empty split is told now, not after the training
    prepared = experiment.prepare(params, corpus)
    tracker = Tracker(params.tracking)
    work = WORK / keys.fit_key(params, corpus)
    run = runs.begin(work, params, corpus, kind="train", name=runs.title(params))
    tracker.sync(work)
    runs.discard(WORK, keep=work, end=tracker.end)

    def on_epoch(history: experiment.History) -> None:
        runs.write_history(work, history)
        tracker.sync(work)

    history = experiment.fit(prepared, work=work, on_epoch=on_epoch)
    card = checkpoint.describe(
        prepared.model, params, classes=corpus.classes, run=run["uid"], data=corpus.fingerprint
    )
    checkpoint.save(MODEL, prepared.model, card)
    runs.publish(work, REPORT)
    plots.training_curves(
        pd.DataFrame(history),
        path=REPORT / CURVES,
        protocol=experiment.protocol(prepared),
        videos=len(corpus.labelled("val")),
        classes=len(corpus.classes),
    )
    tracker.sync(REPORT, model=MODEL)
    shutil.rmtree(work)


if __name__ == "__main__":
    run_stage(train)
