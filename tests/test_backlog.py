import json

import pytest
from run_directory import write_run

from vtn import backlog
from vtn.sections import TrackingConfig


class Tracker:
    """Notes what it is asked to upload; refuses what is called `refused`."""

    def __init__(self, config):
        self.asked = []
        Tracker.last = self

    def sync(self, directory, *, model=None):
        self.asked.append((directory.name, model))
        return None if directory.name == "refused" else f"id of {directory.name}"


@pytest.fixture(autouse=True)
def tracker(monkeypatch):
    monkeypatch.setattr(backlog, "Tracker", Tracker)


def test_every_run_is_uploaded_after_its_parent_and_printed(tmp_path, capsys):
    write_run(tmp_path / "a", uid="child", parent="top")
    write_run(tmp_path / "b", uid="top")
    assert backlog.upload_all([tmp_path], TrackingConfig(), model=tmp_path / "none")
    assert [name for name, _ in Tracker.last.asked] == ["b", "a"]
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/b: motions / run top, run id of b",
        f"{tmp_path}/a: motions / run child, run id of a",
    ]


def test_the_model_goes_to_the_run_that_trained_it(tmp_path):
    write_run(tmp_path / "runs" / "a", uid="one")
    write_run(tmp_path / "runs" / "b", uid="two")
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text(json.dumps({"run": "two"}))
    backlog.upload_all([tmp_path / "runs"], TrackingConfig(), model=model)
    assert Tracker.last.asked == [("a", None), ("b", model)]


def test_a_run_that_fails_is_said_and_does_not_stop_the_others(tmp_path, capsys):
    write_run(tmp_path / "a", uid="a")
    (tmp_path / "a" / "run.json").write_text("{")
    write_run(tmp_path / "refused", uid="b")
    write_run(tmp_path / "z", uid="z")
    assert not backlog.upload_all([tmp_path], TrackingConfig(), model=tmp_path / "none")
    lines = capsys.readouterr().out
    assert "a: not uploaded: " in lines and "refused: not uploaded" in lines and "run id of z" in lines


def test_nothing_to_upload_and_tracking_off_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"no run\.json under .*: run `dvc repro` first"):
        backlog.upload_all([tmp_path], TrackingConfig(), model=tmp_path)
    with pytest.raises(ValueError, match=r"tracking\.enabled: false"):
        backlog.upload_all([tmp_path], TrackingConfig(enabled=False), model=tmp_path)
