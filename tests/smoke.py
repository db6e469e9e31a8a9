"""The whole pipeline and a two-trial sweep on tiny clips, in a copy of the repository: `make smoke`."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml

from vtn import config

REPOSITORY = Path(__file__).parent.parent
TINY = {
    "dataset.motions.train_clips": 36,
    "dataset.motions.val_clips": 9,
    "dataset.motions.test_clips": 18,
    "dataset.motions.size": 32,
    "decode.short_side": 32,
    "decode.shards": 2,
    "clip.crop": 32,
    "train.epochs": 1,
    "train.warmup_epochs": 0,
    "evaluate.speed.repeats": 5,
    "ablate.tables": ["frames"],
    "ablate.epochs": 1,
}
STUDY = {
    "title": "Two trials",
    "why": "Smoke.",
    "features": "trained",
    "base": {"train.epochs": 1},
    "space": {"clip.frames": [2, 4]},
    "objectives": {"top1": "maximize", "latency_ms_p50": "minimize"},
    "report": ["top1", "latency_ms_p50"],
}


def main() -> None:
    """Run every stage once, then look at what they made."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vtn-smoke-") as folder:
        copy = Path(folder) / "repository"
        copy_repository(copy)
        run(copy, "dvc", "repro")
        run(copy, sys.executable, "sweeps/run.py", "--study", "smoke")
        check(copy)
    print(f"smoke: passed in {time.monotonic() - started:.0f} s")


def copy_repository(copy: Path) -> None:
    """The files that git knows or would take, with tiny params and a study of two trials."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file() and name != "dvc.lock":
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, copy / name)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    tree = yaml.safe_load((copy / "params.yaml").read_text())
    (copy / "params.yaml").write_text(yaml.safe_dump(config.override(tree, TINY)))
    (copy / "sweeps/studies/smoke.yaml").write_text(yaml.safe_dump(STUDY))


def run(copy: Path, *command: str) -> None:
    """Run a command in the copy; its failure ends the smoke test."""
    print("$", " ".join(command), flush=True)
    subprocess.run(command, cwd=copy, check=True)


def check(copy: Path) -> None:
    """Every stage left what it promises, and MLflow knows every run."""
    from mlflow import MlflowClient

    metrics = json.loads((copy / "reports/evaluate/metrics.json").read_text())
    assert metrics["videos"] == metrics["annotated"] == 18, metrics
    assert len(pd.read_parquet(copy / "reports/evaluate/predictions.parquet")) == 18
    assert len(pd.read_csv(copy / "reports/ablations/frames.csv")) == 4
    (trials,) = copy.glob("sweeps/results/smoke/*/results.csv")
    assert len(pd.read_csv(trials)) == 2
    client = MlflowClient(f"sqlite:///{copy}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("motions")
    kinds = [run.data.tags["kind"] for run in client.search_runs([experiment.experiment_id])]
    assert sorted(kinds) == ["ablation"] * 4 + ["study", "train"] + ["trial"] * 2, kinds


if __name__ == "__main__":
    main()
