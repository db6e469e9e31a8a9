"""Stage evaluate: models/vtn on data/frames -> reports/evaluate."""

from pathlib import Path
from typing import Any

import pandas as pd

from vtn import experiment, identity, runs
from vtn.command import run_stage
from vtn.data.corpus import Corpus
from vtn.evaluation import metrics, plots
from vtn.evaluation.predict import Predictions, table
from vtn.model import checkpoint
from vtn.sections import Params
from vtn.tracking import Tracker

MODEL = Path("models/vtn")
TRAINED = Path("reports/train")
REPORT = Path("reports/evaluate")


def evaluate(params: Params) -> None:
    """Evaluate models/vtn on whole videos and on several views; measure its speed."""
    corpus = Corpus.open()
    trained = experiment.load_trained(params, corpus, MODEL)
    run = _identity(params, corpus)
    whole = experiment.evaluate(trained)
    views = experiment.evaluate_views(trained)
    speed, views_speed = experiment.measure(trained), experiment.measure_views(trained)

    REPORT.mkdir(parents=True, exist_ok=True)
    identity.write(REPORT, run)
    _write_tables(whole.predictions, corpus, split=params.evaluate.split)
    costs = pd.DataFrame(
        [
            {"label": "whole video", **whole.numbers, **speed},
            {"label": "views", **views.numbers, **views_speed},
        ]
    )
    videos, classes = len(whole.predictions.videos), len(corpus.classes)
    protocol = str(whole.numbers["protocol"])
    plots.confusion_matrix(
        metrics.confusion(whole.predictions.probabilities, whole.predictions.labels),
        corpus.classes,
        path=REPORT / "confusion.png",
        protocol=protocol,
    )
    plots.accuracy_vs_speed(
        costs, path=REPORT / "accuracy_vs_speed.png", protocol=protocol, videos=videos, classes=classes
    )
    runs.write_metrics(
        REPORT,
        {
            **whole.numbers,
            **speed,
            "split": params.evaluate.split,
            "multi_view": {**views.numbers, **views_speed},
        },
    )
    Tracker(params.tracking).sync(REPORT)
    print(f"top-1 {whole.numbers['top1']:.3f} on {videos} {params.evaluate.split} videos ({protocol})")


def _identity(params: Params, corpus: Corpus) -> dict[str, Any]:
    """The training's run, evaluated as params say now; an imported model has none, and gets one of its own."""
    if checkpoint.read_card(MODEL).imported:
        name = f"imported {runs.title(params)}"
        return runs.describe(params, corpus, kind="evaluation", name=name)
    run = identity.read(TRAINED)
    run["params"]["evaluate"] = params.evaluate.model_dump(mode="json")
    return run


def _write_tables(found: Predictions, corpus: Corpus, *, split: str) -> None:
    """Every annotated video with its answer or its reason, the classes, and the pairs for DVC's confusion plot."""
    answers = table(found, corpus.annotated(split), corpus.classes)
    answers.to_parquet(REPORT / "predictions.parquet", index=False)
    answers.dropna(subset="predicted")[["label", "predicted"]].to_csv(REPORT / "confusion.csv", index=False)
    classes = metrics.per_class(found.probabilities, found.labels, corpus.classes)
    classes.to_csv(REPORT / "per_class.csv", index=False)


if __name__ == "__main__":
    run_stage(evaluate)
