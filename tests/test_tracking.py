import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_directory import finish, write_epochs, write_run
from small_model import write_checkpoint, write_clip

from vtn import tracking, tracking_store
from vtn.sections import TrackingConfig
from vtn.tracking import Tracker

CODE = Path(tracking.__file__).parent.parent
slow = pytest.mark.slow  # importing mlflow and making its tables takes 10 to 20 s


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An empty place whose database all tests share."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("store")
        patch.chdir(place)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield place


@pytest.fixture(scope="module")
def client(store):
    """MLflow as a person would ask it, after a first run has made the database."""
    Tracker(TrackingConfig()).sync(write_run(store / "first", uid="first"))
    from mlflow import MlflowClient

    return MlflowClient(tracking_store.uri())


def everything(client, run_id):
    """All that MLflow says of a run."""
    run = client.get_run(run_id)
    histories = {
        key: [(point.step, point.value, point.timestamp) for point in client.get_metric_history(run_id, key)]
        for key in run.data.metrics
    }
    files = {file.path: file.file_size for file in client.list_artifacts(run_id)}
    return run.to_dictionary(), histories, files


def test_mlflow_is_not_imported_before_it_is_needed_nor_when_tracking_is_off(tmp_path):
    script = (
        "import sys; from pathlib import Path; from vtn.tracking import Tracker; "
        "from vtn.sections import TrackingConfig; "
        "assert Tracker(TrackingConfig(enabled=False)).sync(Path('absent')) is None; "
        "assert 'mlflow' not in sys.modules; assert not Path('mlruns').exists()"
    )
    environment = {"PYTHONPATH": str(CODE)}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=environment)


@slow
def test_a_run_in_progress_is_uploaded_with_all_its_facts(client, tmp_path):
    directory = write_run(tmp_path, uid="facts", epochs=2, study="frames", trial=4)
    (directory / "confusion.png").write_bytes(b"png")
    run_id = Tracker(TrackingConfig()).sync(directory)
    run, histories, files = everything(client, run_id)
    assert run["info"]["run_name"] == "run facts" and run["info"]["status"] == "RUNNING"
    assert client.get_experiment(run["info"]["experiment_id"]).name == "motions"
    assert run["data"]["params"]["train.learning_rate"] == "0.001"
    tags = run["data"]["tags"]
    assert (tags["vtn.uid"], tags["kind"], tags["study"], tags["trial"]) == ("facts", "train", "frames", "4")
    assert [(step, value) for step, value, _ in histories["val_top1"]] == [(1, 0.1), (2, 0.2)]
    assert "epoch" not in histories
    (data,) = run["inputs"]["dataset_inputs"]
    assert data["dataset"]["name"] == "motions" and data["dataset"]["digest"] == ("ab" * 32)[:36]
    assert set(files) == {"run.json", "history.csv", "confusion.png"}


@slow
def test_a_second_upload_changes_nothing(client, tmp_path):
    directory = write_run(tmp_path, uid="twice", epochs=3)
    finish(directory, top1=0.5, protocol="x")
    run_id = Tracker(TrackingConfig()).sync(directory)
    before = everything(client, run_id)
    assert Tracker(TrackingConfig()).sync(directory) == run_id
    assert everything(client, run_id) == before


@slow
def test_only_epochs_beyond_the_last_one_are_added(client, tmp_path):
    tracker, directory = Tracker(TrackingConfig()), write_run(tmp_path, uid="grows", epochs=1)
    run_id = tracker.sync(directory)
    for epochs in (2, 5):
        write_epochs(directory, epochs)
        tracker.sync(directory)
    history = directory / "history.csv"
    history.write_text(history.read_text().replace("1,1.0,", "1,9.0,"))  # what is logged stays
    tracker.sync(directory)
    _, histories, files = everything(client, run_id)
    assert [(step, value) for step, value, _ in histories["train_loss"]] == [
        (epoch, 1 / epoch) for epoch in (1, 2, 3, 4, 5)
    ]
    assert files["history.csv"] == (directory / "history.csv").stat().st_size


@slow
def test_final_numbers_finish_a_run_and_the_training_record_does_not_reopen_it(client, tmp_path):
    tracker = Tracker(TrackingConfig())
    trained = write_run(tmp_path / "train", uid="final", epochs=1)
    evaluated = write_run(tmp_path / "evaluate", uid="final")
    run_id = tracker.sync(trained)
    finish(evaluated, top1=0.75, multi_view={"top1": 0.5, "protocol": "3 views"}, protocol="8 frames")
    assert tracker.sync(evaluated) == run_id
    tracker.sync(trained)
    run, histories, _ = everything(client, run_id)
    assert run["info"]["status"] == "FINISHED" and run["info"]["end_time"] >= run["info"]["start_time"]
    assert histories["top1"][0][1] == 0.75 and histories["multi_view.top1"][0][1] == 0.5
    assert run["data"]["tags"]["multi_view.protocol"] == "3 views"


@slow
def test_a_run_that_will_not_go_on_is_killed_and_a_finished_or_unknown_one_left_alone(client, tmp_path):
    tracker = Tracker(TrackingConfig())
    stopped, whole = (write_run(tmp_path / uid, uid=uid, epochs=1) for uid in ("stopped", "whole"))
    finish(whole, top1=0.5)
    ids = [tracker.sync(directory) for directory in (stopped, whole)]
    for directory in (stopped, whole, write_run(tmp_path / "new", uid="never uploaded")):
        tracker.end(directory)
    assert [client.get_run(run_id).info.status for run_id in ids] == ["KILLED", "FINISHED"]


@slow
def test_an_evaluation_with_other_settings_shows_them(client, tmp_path):
    tracker, directory = Tracker(TrackingConfig()), tmp_path / "evaluate"
    tracker.sync(write_run(tmp_path / "train", uid="settings", epochs=1))
    for split in ("test", "val"):
        write_run(directory, uid="settings", params={"evaluate": {"split": split}})
        finish(directory, top1=0.5)
        run_id = tracker.sync(directory)
    tracker.sync(tmp_path / "train")
    data = client.get_run(run_id).data
    assert data.tags["evaluate.split"] == "val" and "evaluate.split" not in data.params


@slow
def test_changed_final_numbers_replace_the_old_ones(client, tmp_path):
    tracker, directory = Tracker(TrackingConfig()), write_run(tmp_path, uid="again")
    finish(directory, top1=0.9, top5=1.0)
    run_id = tracker.sync(directory)
    finish(directory, top1=0.8, top5=1.0)
    tracker.sync(directory)
    run, histories, _ = everything(client, run_id)
    assert run["data"]["metrics"]["top1"] == 0.8 and len(histories["top5"]) == 1


@slow
def test_long_values_and_many_odd_names_are_taken(client, tmp_path, capfd):
    params = {"long": "x" * 9000, **{f"key{number}": number for number in range(150)}}
    directory = write_run(tmp_path, uid="long", params=params)
    finish(directory, recall={f"walk (fast), {number}": 0.5 for number in range(150)}, protocol="y" * 9000)
    run_id = Tracker(TrackingConfig()).sync(directory)
    run, _, _ = everything(client, run_id)
    assert len(run["data"]["params"]) == 151 and len(run["data"]["params"]["long"]) == 6000
    assert len(run["data"]["metrics"]) == 150
    assert "warning" not in capfd.readouterr().err


@slow
def test_a_child_is_nested_once_its_parent_is_known(client, tmp_path):
    tracker, child = Tracker(TrackingConfig()), write_run(tmp_path / "c", uid="child", parent="top")
    child_id = tracker.sync(child)
    assert "mlflow.parentRunId" not in client.get_run(child_id).data.tags
    parent_id = tracker.sync(write_run(tmp_path / "p", uid="top", kind="study"))
    assert tracker.sync(child) == child_id
    assert client.get_run(child_id).data.tags["mlflow.parentRunId"] == parent_id
    assert client.get_run(parent_id).info.status == "FINISHED"


@slow
def test_the_model_predicts_a_table_of_videos_without_the_repository(client, tmp_path):
    directory = write_run(tmp_path / "run", uid="model", epochs=1)
    write_checkpoint(tmp_path / "vtn", run="model")
    tracker = Tracker(TrackingConfig())
    run_id = tracker.sync(directory)
    started = time.monotonic()
    tracker.sync(directory, model=tmp_path / "vtn")
    assert time.monotonic() - started < 8
    tracker.sync(directory, model=tmp_path / "vtn")
    assert len(client.get_run(run_id).outputs.model_outputs) == 1
    assert client.get_run(run_id).info.status == "RUNNING"

    script = """
import sys, json, mlflow, pandas as pd
table = mlflow.pyfunc.load_model(sys.argv[1]).predict(pd.DataFrame({"video": sys.argv[2:]}))
import vtn
print(json.dumps([vtn.__file__, list(table.columns), list(table["label"].notna()), table["error"].tolist()[1]]))
"""
    videos = [str(write_clip(tmp_path / "a.mp4")), str(tmp_path / "absent.mp4")]
    done = subprocess.run(
        [sys.executable, "-c", script, f"runs:/{run_id}/model", *videos],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"MLFLOW_TRACKING_URI": tracking_store.uri(), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    code, columns, answered, error = json.loads(done.stdout)
    assert not code.startswith(str(CODE))
    assert columns == ["video", "label", "probability", "top5", "error"]
    assert answered == [True, False] and error == "missing file: no such file"


@slow
def test_another_checkpoint_of_the_run_is_another_model(client, tmp_path):
    tracker, directory = Tracker(TrackingConfig()), write_run(tmp_path / "run", uid="models")
    for side in (1, 2):
        write_checkpoint(tmp_path / "vtn", run="models")
        card = json.loads((tmp_path / "vtn" / "model.json").read_text())
        (tmp_path / "vtn" / "model.json").write_text(json.dumps({**card, "sha256": str(side)}))
        run_id = tracker.sync(directory, model=tmp_path / "vtn")
    assert len(client.get_run(run_id).outputs.model_outputs) == 2


@slow
def test_a_server_that_is_down_costs_one_warning_and_a_few_seconds(client, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    directory = write_run(tmp_path, uid="down", epochs=1)
    started = time.monotonic()
    assert Tracker(TrackingConfig()).sync(directory) is None
    assert time.monotonic() - started < 10
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("warning: MLflow at http://127.0.0.1:9 failed (")
    assert str(directory) in line and "`vtn log-runs`" in line and "secret" not in line

    started = time.monotonic()
    assert Tracker(TrackingConfig()).sync(directory) is None
    assert time.monotonic() - started < 0.1
    assert capfd.readouterr().err == ""


@slow
def test_a_store_that_mlflow_refuses_is_a_warning_too(client, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "folder"))
    assert Tracker(TrackingConfig()).sync(write_run(tmp_path / "run", uid="folder")) is None
    assert capfd.readouterr().err.count("warning: MLflow at") == 1


@slow
def test_an_installation_without_mlflow_is_a_warning(client, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert Tracker(TrackingConfig()).sync(write_run(tmp_path / "run", uid="none")) is None
    assert capfd.readouterr().err.count("warning: MLflow at") == 1


@slow
def test_errors_of_our_own_are_not_hidden(client, tmp_path, monkeypatch):
    def broken(*arguments):
        raise TypeError("a mistake")

    monkeypatch.setattr(Tracker, "_log_metrics", broken)
    with pytest.raises(TypeError, match="a mistake"):
        Tracker(TrackingConfig()).sync(write_run(tmp_path, uid="broken"))
    with pytest.raises(ValueError, match="holds no finished run"):
        Tracker(TrackingConfig()).sync(tmp_path / "absent")


@slow
def test_processes_that_start_together_share_one_new_store(tmp_path):
    write_run(tmp_path / "study", uid="study", kind="study")
    script = (
        "import sys; from pathlib import Path; from vtn.tracking import Tracker; "
        "from vtn.sections import TrackingConfig; tracker = Tracker(TrackingConfig()); "
        "print(tracker.sync(Path('study')), tracker.sync(Path(sys.argv[1])))"
    )
    workers = []
    for number in range(3):
        write_run(tmp_path / f"trial{number}", uid=f"trial{number}", kind="trial", parent="study", epochs=2)
        workers.append(
            subprocess.Popen(
                [sys.executable, "-c", script, f"trial{number}"],
                cwd=tmp_path,
                env={"PYTHONPATH": str(CODE)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    answers = [worker.communicate() for worker in workers]
    assert [error for _, error in answers] == ["", "", ""]
    ids = [output.split() for output, _ in answers]
    assert len({study for study, _ in ids}) == 1 and "None" not in {study for study, _ in ids}
    assert len({trial for _, trial in ids}) == 3 and "None" not in {trial for _, trial in ids}
