import shutil
from importlib import metadata

import pytest
from small_model import write_checkpoint

from vtn import doctor, tracking_store


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch):
    """An empty checkout in a sound installation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(metadata, "metadata", lambda name: {"Requires-Python": ">=3.11"})
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch>=2.9", 'ruff>=99; extra == "dev"'])
    (tmp_path / "params.yaml").write_text("seed: 1\n")


def states(subject, findings=None):
    """(state, text and remedy) of all findings on a subject."""
    found = doctor.examine() if findings is None else findings
    return [(finding.state, str(finding)) for finding in found if finding.subject == subject]


def test_a_sound_checkout_without_results_has_no_failure():
    findings = list(doctor.examine())
    tools = ("dvc", "git", "cuda")  # these depend on the machine that runs the test
    assert [
        str(finding) for finding in findings if finding.state == "fail" and finding.subject not in tools
    ] == []
    warned = {finding.subject for finding in findings if finding.state == "warn"} - set(tools)
    assert warned == {"frame store", "model"}
    assert all(finding.remedy for finding in findings if finding.state != "ok")


def test_params_that_are_wrong_are_explained_and_the_rest_is_still_looked_at(tmp_path):
    (tmp_path / "params.yaml").write_text("train: {epoch: 3}\n")
    findings = list(doctor.examine())
    ((state, text),) = states("params", findings)
    assert state == "fail" and "did you mean train.epochs?" in text
    assert states("disk", findings)


def test_a_table_that_is_not_there_is_named_before_a_stage_runs(tmp_path):
    (tmp_path / "pipelines/ablations").mkdir(parents=True)
    (tmp_path / "pipelines/ablations/depth.yaml").touch()
    (tmp_path / "params.yaml").write_text("ablate: {tables: [depth]}\n")
    assert states("ablations") == [("ok", "ok    ablations: depth")]
    (tmp_path / "params.yaml").write_text("ablate: {tables: [depht]}\n")
    ((state, text),) = states("ablations")
    assert state == "fail" and "depht.yaml not found; did you mean depth?" in text


def test_a_package_that_is_absent_or_too_old_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: ["no-such-thing>=1", "torch>=99"])
    first, second, *_ = doctor._packages()
    assert str(first) == "fail  packages: no-such-thing is not installed; run `make env`"
    assert "torch is" in str(second) and ">=99 is required; run `make env`" in str(second)


def test_an_installation_without_the_package_itself_fails_with_the_remedy(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", absent)
    ((state, text),) = states("python")
    assert state == "fail" and text.endswith("run `make env`")


def test_another_python_than_the_required_one_fails(monkeypatch):
    monkeypatch.setattr(metadata, "metadata", lambda name: {"Requires-Python": "<3.0"})
    (finding,) = doctor._python()
    assert finding.state == "fail" and "<3.0 is required" in finding.text


def test_a_tool_beside_python_but_not_on_path_is_a_warning(monkeypatch, tmp_path):
    (tmp_path / "dvc").touch()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor.sys, "executable", str(tmp_path / "python"))
    git, dvc = doctor._tools()
    assert (git.state, dvc.state) == ("fail", "warn")
    assert f"add {tmp_path} to PATH" in dvc.remedy


def test_a_missing_decoder_is_a_warning_that_names_it(monkeypatch):
    monkeypatch.setattr(doctor, "_has_decoder", lambda name: name != "av1")
    first, _ = doctor._decoders()
    assert first.state == "warn" and "no decoder for av1" in first.text


def test_decoders_are_asked_by_name():
    assert doctor._has_decoder("h264") and not doctor._has_decoder("no-such-codec")


def test_frames_lost_on_the_way_are_a_failure(monkeypatch):
    monkeypatch.setattr(doctor, "_decoded_of_ten", lambda: 9)
    *_, last = doctor._decoders()
    assert last.state == "fail" and "9 were read back" in last.text


@pytest.mark.parametrize(("free", "state"), [(0.5e9, "fail"), (5e9, "warn"), (50e9, "ok")])
def test_free_disk_is_judged(monkeypatch, free, state):
    usage = shutil._ntuple_diskusage(100e9, 50e9, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    (finding,) = doctor._disk()
    assert finding.state == state


def test_a_store_that_does_not_answer_fails_without_its_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setattr(tracking_store, "problem", lambda address: "connection refused")
    ((state, text),) = states("tracking store")
    assert state == "fail" and "http://127.0.0.1:9: connection refused" in text and "secret" not in text


def test_tracking_that_is_off_is_not_looked_at(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("tracking: {enabled: false}\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert states("tracking store") == [("ok", "ok    tracking store: tracking.enabled: false")]


def test_a_damaged_frame_store_and_a_damaged_model_fail(tmp_path):
    (tmp_path / "data" / "frames").mkdir(parents=True)
    (tmp_path / "models" / "vtn").mkdir(parents=True)
    findings = list(doctor.examine())
    assert "run `dvc repro decode`" in states("frame store", findings)[0][1]
    assert states("frame store", findings)[0][0] == states("model", findings)[0][0] == "fail"


def test_a_model_is_described(tmp_path):
    write_checkpoint(tmp_path / "models" / "vtn")
    (finding,) = doctor._model()
    assert str(finding) == "ok    model: models/vtn: test_resnet, 6 classes"
