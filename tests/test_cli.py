import json
import subprocess
import sys

import pytest
from small_model import CLASSES, write_checkpoint, write_clip

from vtn import cli, doctor
from vtn.doctor import Finding


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory with a model, two clips and a file that is no video."""
    folder = tmp_path_factory.mktemp("workplace")
    write_checkpoint(folder / "models" / "vtn")
    write_clip(folder / "clip.mp4")
    write_clip(folder / "media" / "-clip.mp4")
    write_clip(folder / "-clip.mp4")
    (folder / "bad.mp4").write_text("no video")
    return folder


@pytest.fixture(autouse=True)
def there(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.delenv("VTN_DEBUG", raising=False)


def code_of(arguments):
    """The exit code of a call."""
    try:
        cli.main(arguments)
    except SystemExit as stop:
        return stop.code
    return 0


def test_help_appears_without_heavy_imports():
    script = "import sys; from vtn.cli import main; main([]); print(*sys.modules, sep='\\n', file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=cli_root()
    )
    assert "predict" in done.stdout and "doctor" in done.stdout and "log-runs" in done.stdout
    assert not {"torch", "numpy", "pandas", "mlflow", "av", "timm"} & set(done.stderr.split())


def cli_root():
    return cli.__file__.rpartition("/vtn/")[0]


@pytest.mark.parametrize(
    "verb", ["predict", "doctor", "log-runs", "use", "ledger", "import-checkpoint", "export-checkpoint"]
)
def test_every_verb_explains_itself_with_an_example(verb, capsys):
    assert code_of([verb, "--help"]) == 0
    assert f"examples:\n  vtn {verb}" in capsys.readouterr().out


def test_a_table_shows_the_video_and_its_classes(capsys):
    assert code_of(["predict", "clip.mp4"]) == 0
    first, *classes = capsys.readouterr().out.splitlines()
    assert first == "clip.mp4 (5 frames of 1.2 s)"
    assert len(classes) == 5 and all(line.endswith("%") for line in classes)
    assert len({len(line) for line in classes}) == 1


def test_top_limits_the_classes(capsys):
    assert code_of(["predict", "--top", "2", "clip.mp4"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert code_of(["predict", "--top", "0", "clip.mp4"]) == 2
    assert "'0' must be a whole number, at least 1" in capsys.readouterr().err


def test_json_is_one_list_with_probabilities(capsys):
    assert code_of(["predict", "--json", "clip.mp4", "media/-clip.mp4"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["video"] for answer in answers] == ["clip.mp4", "media/-clip.mp4"]
    top = answers[0]["top"]
    assert set(top) < set(CLASSES) and len(top) == 5
    assert answers[0]["label"] == next(iter(top)) and answers[0]["probability"] == max(top.values())


def test_a_file_that_cannot_be_used_does_not_keep_the_others_from_an_answer(capsys):
    assert code_of(["predict", "bad.mp4", "clip.mp4"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "bad.mp4" and lines[1].startswith("  cannot be used: unreadable: a text file")
    assert lines[2].startswith("clip.mp4 (")
    assert code_of(["predict", "--json", "bad.mp4", "clip.mp4"]) == 1
    bad, good = json.loads(capsys.readouterr().out)
    assert "error" in bad and "error" not in good


def test_names_with_a_leading_dash_work_after_two_dashes(capsys):
    assert code_of(["predict", "--", "-clip.mp4"]) == 0
    assert capsys.readouterr().out.startswith("-clip.mp4 (")


def test_a_missing_model_is_one_line_unless_debug(capsys):
    assert "models/none not found: run `dvc repro train`" in code_of(
        ["predict", "--model", "models/none", "clip.mp4"]
    )
    with pytest.raises(ValueError, match="not found"):
        cli.main(["predict", "--debug", "--model", "models/none", "clip.mp4"])


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_doctor_fails_only_on_failures(monkeypatch, capsys, state, code):
    findings = [Finding("python", "ok", "3.11"), Finding("disk", state, "1 GB free", "free some")]
    monkeypatch.setattr(doctor, "examine", lambda params, overrides: iter(findings))
    assert code_of(["doctor"]) == code
    assert capsys.readouterr().out == f"ok    python: 3.11\n{state:<4}  disk: 1 GB free; free some\n"
    assert code_of(["doctor", "--json"]) == code
    assert json.loads(capsys.readouterr().out)[1] == {
        "subject": "disk",
        "state": state,
        "text": "1 GB free",
        "remedy": "free some",
    }


def test_log_runs_refuses_when_tracking_is_off(workplace):
    (workplace / "params.yaml").write_text("tracking: {enabled: false}\n")
    assert "tracking.enabled: false uploads nothing" in code_of(["log-runs"])


def test_log_runs_says_where_it_found_no_run(workplace):
    (workplace / "params.yaml").write_text("seed: 1\n")
    assert "no run.json under reports, sweeps/results" in code_of(["log-runs"])
    assert "no run.json under elsewhere" in code_of(["log-runs", "elsewhere"])


def test_use_lists_the_presets_writes_one_and_says_how_to_go_back(workplace, monkeypatch, tmp_path, capsys):
    params = tmp_path / "params.yaml"
    params.write_text("seed: 1  # mine\n")
    monkeypatch.chdir(cli_root())
    assert code_of(["use"]) == 0
    assert "vit_b_vtn_12" in capsys.readouterr().out
    assert code_of(["use", "vit_b_vtn_12", "--params", str(params)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "model.temporal.layers: 2 -> 12" in lines
    assert (
        lines[-1]
        == f"{len(lines) - 1} values changed; `git checkout {params}` brings back what was committed"
    )
    assert params.read_text().startswith("seed: 1  # mine\n")
    assert code_of(["use", "vit_b_vtn_12", "--params", str(params)]) == 0
    assert capsys.readouterr().out == f"{params} already says vit_b_vtn_12\n"
    assert "did you mean" in code_of(["use", "vit_b_vtn", "--params", str(params)])
