import argparse
import errno

import pytest
from safetensors import SafetensorError

from vtn.command import add_debug, add_params, explained, run_stage


@pytest.fixture(autouse=True)
def _no_debug_from_outside(monkeypatch):
    monkeypatch.delenv("VTN_DEBUG", raising=False)


@pytest.fixture
def params_file(tmp_path):
    path = tmp_path / "my params.yaml"
    path.write_text("train: {epochs: 7}\n")
    return path


@pytest.fixture
def stage(monkeypatch, params_file):
    """Run a stage with command-line arguments; gives the params that its main function got."""

    def run(*arguments, main=None):
        seen = []
        monkeypatch.setattr("sys.argv", ["stage", "--params", str(params_file), *arguments])
        run_stage(main or seen.append)
        return seen[0]

    return run


@pytest.mark.parametrize(
    "error", [ValueError("clip.crop: too large"), OSError(errno.ENOSPC, "No space left")]
)
def test_an_error_of_the_user_becomes_one_message_and_exit_code_1(error):
    with pytest.raises(SystemExit) as caught, explained(debug=False):
        raise error
    assert caught.value.code.startswith(f"error: {error}\n")
    assert "--debug" in caught.value.code


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device")],
)
def test_a_full_disk_comes_with_its_remedy(error):
    with pytest.raises(SystemExit, match="make room and run the same command again"), explained(debug=False):
        raise error


def test_debug_keeps_the_traceback():
    with pytest.raises(ValueError, match="too large"), explained(debug=True):
        raise ValueError("clip.crop: too large")


def test_an_error_of_ours_is_never_hidden():
    with pytest.raises(AssertionError), explained(debug=False):
        raise AssertionError


def test_an_interruption_says_that_the_command_resumes():
    with pytest.raises(SystemExit, match="goes on where this one stopped"), explained(debug=False):
        raise KeyboardInterrupt


def test_a_stage_gets_the_params_of_the_file_with_overrides_in_order(stage):
    assert stage().train.epochs == 7
    params = stage("-S", "train.epochs=2", "--set", "train.epochs=3", "-S", "seed=5")
    assert (params.train.epochs, params.seed) == (3, 5)


@pytest.mark.parametrize(
    ("override", "message"), [("train.epoch=3", "did you mean train.epochs"), ("seed", "not KEY=VALUE")]
)
def test_a_wrong_override_ends_the_stage_before_it_begins(stage, override, message):
    with pytest.raises(SystemExit, match=message):
        stage("-S", override, main=lambda params: pytest.fail("ran"))


def test_a_failing_stage_shows_its_traceback_only_when_asked(stage, monkeypatch):
    def fail(params):
        raise ValueError("all videos rejected")

    with pytest.raises(SystemExit, match="all videos rejected"):
        stage(main=fail)
    with pytest.raises(ValueError, match="all videos rejected"):
        stage("--debug", main=fail)
    monkeypatch.setenv("VTN_DEBUG", "1")
    with pytest.raises(ValueError, match="all videos rejected"):
        stage(main=fail)


def test_help_is_the_stage_s_docstring(stage, capsys):
    def main(params):
        """Decode 100% of the videos."""

    with pytest.raises(SystemExit) as caught:
        stage("--help", main=main)
    assert caught.value.code == 0
    assert "Decode 100% of the videos." in capsys.readouterr().out


def test_params_yaml_is_read_unless_another_file_is_named():
    parser = argparse.ArgumentParser()
    add_params(parser)
    add_debug(parser)
    options = parser.parse_args([])
    assert (str(options.params), options.overrides, options.debug) == ("params.yaml", [], False)
