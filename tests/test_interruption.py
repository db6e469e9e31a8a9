"""Stages and sweeps killed with SIGKILL end, after the same command again, as if undisturbed."""

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import smoke
import yaml

from vtn import config

pytestmark = pytest.mark.slow

SLOWER = {
    "dataset.motions.train_clips": 180,
    "decode.shards": 12,
    "train.epochs": 3,
    "train.batch_size": 4,
    "tracking.enabled": False,
    "machine.workers": 1,
}
PATIENCE = 180.0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A copy of the repository in which download, decode, train and the sweep ran to their ends."""
    copy = tmp_path_factory.mktemp("undisturbed") / "repository"
    smoke.copy_repository(copy)
    tree = yaml.safe_load((copy / "params.yaml").read_text())
    (copy / "params.yaml").write_text(yaml.safe_dump(config.override(tree, SLOWER)))
    for stage in ("download", "decode", "train"):
        run(copy, "-m", f"pipelines.{stage}")
    run(copy, "sweeps/run.py", "--study", "smoke")
    return copy


@pytest.fixture
def copy(undisturbed, tmp_path):
    return Path(shutil.copytree(undisturbed, tmp_path / "repository"))


def environment(copy):
    return os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}


def run(copy, *command):
    subprocess.run([sys.executable, *command], cwd=copy, env=environment(copy), check=True)


def kill_when(copy, condition, *command):
    """Start the command and kill its whole process group as soon as `condition` holds."""
    process = start_until(copy, condition, sys.executable, *command)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def start_until(copy, condition, *command):
    process = subprocess.Popen(command, cwd=copy, env=environment(copy), start_new_session=True)
    deadline = time.monotonic() + PATIENCE
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.poll() is None, "the command ended before it could be killed"
    return process


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_killed_decode_ends_with_the_same_store(undisturbed, copy):
    frames = copy / "data/frames"
    shutil.rmtree(frames)
    kill_when(copy, lambda: len(list(frames.glob("shard-*.parquet"))) >= 2, "-m", "pipelines.decode")
    assert not (frames / "store.json").exists()
    run(copy, "-m", "pipelines.decode")
    assert contents(frames) == contents(undisturbed / "data/frames")


def test_a_killed_training_ends_with_the_same_weights(undisturbed, copy):
    shutil.rmtree(copy / "models")
    shutil.rmtree(copy / "reports")
    kill_when(copy, lambda: any(copy.glob("work/train/*/state.safetensors")), "-m", "pipelines.train")
    assert not (copy / "models").exists()
    run(copy, "-m", "pipelines.train")
    weights = "models/vtn/model.safetensors"
    assert (copy / weights).read_bytes() == (undisturbed / weights).read_bytes()
    histories = [pd.read_csv(root / "reports/train/history.csv") for root in (copy, undisturbed)]
    pd.testing.assert_frame_equal(*(history.drop(columns="seconds") for history in histories))


@pytest.mark.parametrize(
    ("stage", "begun", "result"),
    [
        ("decode", "data/frames/shard-*.parquet", "data/frames"),
        ("train", "work/train/*/state.safetensors", "models/vtn/model.safetensors"),
    ],
)
def test_a_stage_that_outlives_a_killed_dvc_is_waited_for(undisturbed, copy, stage, begun, result):
    shutil.rmtree((copy / result).parent if (copy / result).is_file() else copy / result)
    # dvc runs a stage under a shell. The orphan is held still, so that the second call meets it at its work.
    line = f"{shlex.join([sys.executable, '-m', f'pipelines.{stage}'])}; exit"
    shell = start_until(copy, lambda: any(copy.glob(begun)), "sh", "-c", line)
    os.killpg(shell.pid, signal.SIGSTOP)
    shell.kill()
    shell.wait()
    again = subprocess.Popen(
        [sys.executable, "-m", f"pipelines.{stage}"],
        cwd=copy,
        env=environment(copy),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert again.stdout.readline() == (
            f"another process is at {stage} in this directory: waiting for it to end\n"
        )
    finally:
        os.killpg(shell.pid, signal.SIGCONT)
        again.communicate(timeout=PATIENCE)
    assert again.returncode == 0
    hashes = contents if stage == "decode" else Path.read_bytes
    assert hashes(copy / result) == hashes(undisturbed / result)


def test_a_killed_sweep_ends_with_the_same_accuracies(undisturbed, copy):
    (results,) = copy.glob("sweeps/results/smoke/*")
    shutil.rmtree(results)
    kill_when(copy, lambda: (results / "trials/001/run.json").exists(), "sweeps/run.py", "--study", "smoke")
    run(copy, "sweeps/run.py", "--study", "smoke")
    tables = [
        pd.read_csv(next(root.glob("sweeps/results/smoke/*/results.csv"))) for root in (copy, undisturbed)
    ]
    pd.testing.assert_frame_equal(*(table[["trial", "clip.frames", "top1"]] for table in tables))
    trials = list(results.glob("trials/*"))
    assert len(trials) == 2 and all((trial / "metrics.json").exists() for trial in trials)
