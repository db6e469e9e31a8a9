import json

import pytest
from small_model import write_checkpoint, write_clip

from vtn import cli
from vtn.model import checkpoint


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory with a model, clips of many frames and of two, and a file that is no video."""
    folder = tmp_path_factory.mktemp("workplace")
    write_checkpoint(folder / "models" / "vtn")
    write_clip(folder / "clip.mp4", frames=60)
    write_clip(folder / "short.mp4", frames=8)
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


def test_the_verb_explains_itself_with_an_example(capsys):
    assert code_of(["explain", "--help"]) == 0
    assert "examples:\n  vtn explain" in capsys.readouterr().out


def test_lines_give_the_answer_the_moments_the_check_and_the_page(capsys, tmp_path):
    page = tmp_path / "page.png"
    assert code_of(["explain", "clip.mp4", "--out", str(page)]) == 0
    first, label, moments, sentence, verdict, last = capsys.readouterr().out.splitlines()
    assert first == "clip.mp4 (10 frames of 2.4 s)"
    assert label.endswith("%") and moments.startswith("  highest weights at ")
    assert sentence.startswith("  Removing the 30% of the frames with the highest weights takes P(")
    assert verdict.strip().startswith(("The weights ", "No verdict"))
    assert last == f"  {page}" and page.read_bytes().startswith(b"\x89PNG")


def test_json_holds_the_numbers_of_the_curves(capsys, tmp_path):
    page = tmp_path / "page.png"
    assert code_of(["explain", "clip.mp4", "--json", "--max-frames", "5", "--out", str(page)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["video"] == "clip.mp4" and answer["frames"] == 5 and answer["page"] == str(page)
    weights = [moment["weight"] for moment in answer["moments"]]
    assert weights == sorted(weights, reverse=True) and 1 <= len(weights) <= 5
    check = answer["deletion"]
    assert check["removed"] == [0.2, 0.4, 0.6, 0.8]
    assert all(len(check[curve]) == 4 for curve in ("highest", "lowest", "random_mean", "random_min"))
    assert len(check["layer_areas"]) == 1


def test_too_few_frames_are_said_and_drawn(capsys, tmp_path):
    page = tmp_path / "page.png"
    assert code_of(["explain", "short.mp4", "--out", str(page)]) == 0
    assert "  No deletion check: it needs at least 3 different frames, not 2.\n" in capsys.readouterr().out
    assert page.is_file()
    assert code_of(["explain", "short.mp4", "--json", "--out", str(page)]) == 0
    assert json.loads(capsys.readouterr().out)["deletion"] is None


def test_a_file_that_cannot_be_used_gives_the_reason_of_predict_and_no_page(capsys, tmp_path):
    page = tmp_path / "page.png"
    assert code_of(["predict", "bad.mp4"]) == 1
    reason = capsys.readouterr().out
    assert code_of(["explain", "bad.mp4", "--out", str(page)]) == 1
    assert capsys.readouterr().out == reason
    assert not page.exists()
    assert code_of(["explain", "bad.mp4", "--json", "--out", str(page)]) == 1
    assert json.loads(capsys.readouterr().out)["error"].startswith("unreadable: a text file")


def test_a_model_without_attention_is_one_line(monkeypatch):
    card = checkpoint.read_card(cli.MODEL)
    temporal = card.model.temporal.model_copy(update={"layers": 0})
    changed = card.model_copy(update={"model": card.model.model_copy(update={"temporal": temporal})})
    monkeypatch.setattr(checkpoint, "read_card", lambda directory: changed)
    assert "model.temporal.layers: 0 takes the mean of the frames" in code_of(["explain", "clip.mp4"])
