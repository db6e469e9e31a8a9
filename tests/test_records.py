import os
from datetime import datetime

import pytest
from run_directory import finish, write_run

from vtn import identity, records
from vtn.sections import TrainConfig


def test_params_are_flat_and_written_as_in_params_yaml(tmp_path):
    params = records.read(write_run(tmp_path, uid="a")).params
    assert params["train.optimizer"] == "adamw"
    assert params["train.epochs"] == str(TrainConfig().epochs)
    assert params["model.backbone.pretrained"] == "false"
    assert params["model.backbone.weights"] == "null"


def test_a_trained_model_s_evaluation_is_described_by_tags_which_may_change(tmp_path):
    training = write_run(tmp_path / "train", uid="a", epochs=1)
    evaluation = write_run(tmp_path / "evaluate", uid="a", params={"evaluate": {"split": "val"}, "seed": 1})
    finish(evaluation, top1=0.5)
    assert records.read(evaluation).tags["evaluate.split"] == "val"
    for directory in (training, evaluation):
        assert not any(key.startswith("evaluate.") for key in records.read(directory).params)
    assert not any(key.startswith("evaluate.") for key in records.read(training).tags)
    row = records.read(write_run(tmp_path / "row", uid="b", kind="ablation"))
    assert row.params["evaluate.split"] == "test"


def test_facts_without_a_place_of_their_own_are_tags(tmp_path):
    tags = records.read(write_run(tmp_path, uid="a", kind="trial", study="s", trial=3, parent="p")).tags
    assert tags["kind"] == "trial" and tags["study"] == "s" and tags["trial"] == "3"
    assert tags["device"] == "a small CPU" and len(tags["code_sha256"]) == 64
    assert not {"uid", "parent", "params", "name"} & set(tags)
    assert not any(key.startswith(("packages", "params")) for key in tags)


def test_commit_and_dirty_flag_are_tags_where_there_is_a_checkout(tmp_path):
    write_run(tmp_path, uid="a", git={"commit": "c0ffee", "dirty": True})
    assert records.read(tmp_path).tags["git.commit"] == "c0ffee"
    assert records.read(tmp_path).tags["git.dirty"] == "true"
    write_run(tmp_path, uid="a", git={"commit": None, "dirty": None})
    assert "git.commit" not in records.read(tmp_path).tags


def test_epochs_carry_their_number_and_the_time_they_ended(tmp_path):
    record = records.read(write_run(tmp_path, uid="a", epochs=2))
    assert [epoch.number for epoch in record.epochs] == [1, 2]
    assert [epoch.ended - record.started for epoch in record.epochs] == [3000, 6000]
    assert record.epochs[1].values == {"train_loss": 0.5, "learning_rate": 0.1, "seconds": 3, "val_top1": 0.2}
    started = datetime.fromisoformat(identity.read(tmp_path)["started"])
    assert record.started == started.timestamp() * 1000


def test_gaps_and_non_numbers_of_a_history_are_left_out(tmp_path):
    write_run(tmp_path, uid="a")
    (tmp_path / "history.csv").write_text("epoch,train_loss,val_top1\n1,nan,\n2,0.5,0.1\n")
    assert [epoch.values for epoch in records.read(tmp_path).epochs] == [
        {},
        {"train_loss": 0.5, "val_top1": 0.1},
    ]


def test_final_numbers_are_dotted_and_texts_are_tags(tmp_path):
    write_run(tmp_path, uid="a")
    finish(
        tmp_path, top1=0.5, videos=3, protocol="x", missing=None, multi_view={"top1": 0.4, "protocol": "y"}
    )
    record = records.read(tmp_path)
    assert record.metrics == {"top1": 0.5, "videos": 3.0, "multi_view.top1": 0.4}
    assert record.tags["protocol"] == "x" and record.tags["multi_view.protocol"] == "y"


def test_a_run_is_whole_when_its_final_numbers_are_there(tmp_path):
    write_run(tmp_path, uid="a", epochs=2)
    assert records.read(tmp_path).ended is None
    finish(tmp_path, top1=0.5)
    os.utime(tmp_path / "metrics.json", (5000, 5000))
    assert records.read(tmp_path).ended == 5_000_000


def test_a_training_is_whole_when_its_curves_are_drawn(tmp_path):
    write_run(tmp_path, uid="a", epochs=2)
    (tmp_path / "curves.png").touch()
    os.utime(tmp_path / "curves.png", (4000, 4000))
    assert records.read(tmp_path).ended == 4_000_000
    assert not any(key.startswith("evaluate.") for key in records.read(tmp_path).tags)


def test_a_study_is_whole_at_any_time(tmp_path):
    assert records.read(write_run(tmp_path, uid="a", kind="study")).ended is not None


def test_artifacts_are_records_tables_and_pictures(tmp_path):
    write_run(tmp_path, uid="a", epochs=1)
    for name in ("curves.png", "state.safetensors", "predictions.parquet", "history.csv.partial"):
        (tmp_path / name).touch()
    assert [path.name for path in records.read(tmp_path).artifacts] == [
        "curves.png",
        "history.csv",
        "run.json",
    ]


@pytest.mark.parametrize(("text", "reason"), [("{", "is not JSON"), ("{}", "is not a run of VTN Lab")])
def test_a_damaged_record_is_refused(tmp_path, text, reason):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=reason):
        records.read(tmp_path)


def test_parents_are_found_before_their_children(tmp_path):
    write_run(tmp_path / "a" / "grandchild", uid="g", parent="c")
    write_run(tmp_path / "b" / "child", uid="c", parent="p")
    write_run(tmp_path / "c" / "parent", uid="p")
    write_run(tmp_path / "d" / "orphan", uid="o", parent="elsewhere")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "run.json").write_text("{")
    names = [path.name for path in records.find([tmp_path, tmp_path / "absent"])]
    assert names.index("parent") < names.index("child") < names.index("grandchild")
    assert len(names) == 5


def test_parents_in_a_circle_end_the_search(tmp_path):
    write_run(tmp_path / "a", uid="a", parent="b")
    write_run(tmp_path / "b", uid="b", parent="a")
    assert len(records.find([tmp_path])) == 2


def test_metric_names_lose_the_characters_that_mlflow_refuses():
    assert records.metric_name("recall.walk (fast), 2") == "recall.walk _fast__ 2"
    assert records.metric_name("latency_ms_p50") == "latency_ms_p50"
