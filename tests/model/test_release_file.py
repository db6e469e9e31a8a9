import pickle
from pathlib import Path

import pytest
import torch

from vtn.model import release_file

STATE = {"cls_token": torch.zeros(1, 1, 4)}


class Payload:
    """Reading it without care writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_file_comes_back_with_its_cfg(tmp_path):
    release_file.write(tmp_path / "new" / "a.pyth", STATE, {"VTN": {"NUM_ATTENTION_HEADS": 4}})
    found = release_file.read(tmp_path / "new" / "a.pyth")
    assert torch.equal(found.state["cls_token"], STATE["cls_token"])
    assert found.said("VTN", "NUM_ATTENTION_HEADS") == 4
    assert found.said("VTN", "ABSENT") is None and found.said("ABSENT", "KEY") is None
    assert (found.recognised, found.is_impostor) == (None, False)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.pyth"]
    whole = torch.load(tmp_path / "new" / "a.pyth", weights_only=True)
    assert list(whole) == ["epoch", "model_state", "cfg"]


@pytest.mark.parametrize("cfg", [None, "- a list", "{", 7])
def test_a_cfg_that_says_nothing_is_empty(tmp_path, cfg):
    torch.save({"model_state": STATE, "cfg": cfg}, tmp_path / "a.pyth")
    assert release_file.read(tmp_path / "a.pyth").cfg == {}


def test_a_published_file_is_recognised_by_content_and_an_impostor_by_its_name(tmp_path, monkeypatch):
    path, copy = tmp_path / "known.pyth", tmp_path / "copy.pyth"
    torch.save({"model_state": STATE}, path)
    copy.write_bytes(path.read_bytes())
    monkeypatch.setitem(release_file.KNOWN, "known.pyth", release_file.read(path).sha256)
    assert release_file.read(copy).recognised == "known.pyth"
    assert not release_file.read(path).is_impostor
    torch.save({"model_state": STATE, "epoch": 1}, path)
    assert release_file.read(path).is_impostor and release_file.read(path).recognised is None


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, form):
    path, owned = tmp_path / "a.pyth", tmp_path / "owned"
    content = {"model_state": STATE, "cfg": Payload(owned)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content | {"model_state": {}}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ValueError, match=r"a\.pyth holds more than tensors.*could run code.*refused"):
        release_file.read(path)
    assert not owned.exists()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_truncated_file_is_called_so(tmp_path, form):
    path = tmp_path / "a.pyth"
    torch.save({"model_state": STATE}, path, _use_new_zipfile_serialization=form == "zip")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"a\.pyth is cut short: \d+ bytes .* fetch it again"):
        release_file.read(path)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"cls_token\nis a word\n"])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "a.pyth").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pyth is no checkpoint of torch; give a \.pyth file"):
        release_file.read(tmp_path / "a.pyth")


@pytest.mark.parametrize(
    ("content", "outline"),
    [
        ({"state_dict": STATE, "epoch": 1}, "it holds state_dict, epoch"),
        ({"model_state": {"a": "text"}}, "it holds model_state"),
        ([torch.zeros(1)], "it holds list"),
        ({}, "it holds nothing"),
        (dict.fromkeys("abcdef", 1), "it holds a, b, c, d and 2 more"),
        ({"\x1b[2J": 1, 7: 1}, r"it holds \\x1b\[2J, int"),
    ],
)
def test_a_file_without_model_state_is_refused(tmp_path, content, outline):
    torch.save(content, tmp_path / "a.pyth")
    with pytest.raises(ValueError, match=rf"has no model_state of tensors \({outline}\)"):
        release_file.read(tmp_path / "a.pyth")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"a\.pyth not found; give the path"):
        release_file.read(tmp_path / "a.pyth")


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path, monkeypatch):
    def full(_, path):
        path.write(b"half")
        raise OSError("No space left on device")

    release_file.write(tmp_path / "a.pyth", STATE, {})
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        release_file.write(tmp_path / "a.pyth", STATE, {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.pyth"]
    release_file.read(tmp_path / "a.pyth")


def test_a_changed_byte_is_a_damaged_file(tmp_path):
    path = tmp_path / "a.pyth"
    release_file.write(path, {"cls_token": torch.ones(1, 1, 4096)}, {})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        release_file.read(path)


def test_numbers_that_are_not_finite_are_refused_and_half_precision_is_widened(tmp_path):
    release_file.write(tmp_path / "a.pyth", {"w": torch.tensor([1.0, torch.nan])}, {})
    with pytest.raises(ValueError, match="w holds numbers that are not finite"):
        release_file.read(tmp_path / "a.pyth")
    release_file.write(tmp_path / "b.pyth", {"w": torch.ones(2, dtype=torch.float16)}, {})
    assert release_file.read(tmp_path / "b.pyth").state["w"].dtype == torch.float32


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.ones(2, dtype=torch.complex64), "is torch.complex64, not a plain tensor of weights"),
        (torch.ones(2, dtype=torch.bool), "is torch.bool, not a plain tensor of weights"),
        (torch.ones(1).expand(10**12), "has no numbers of its own in the file"),
        (torch.ones(2, dtype=torch.int64), "is torch.int64, not a plain tensor of weights"),
        (torch.full((2,), 1e300, dtype=torch.float64), "holds numbers that are not finite"),
    ],
)
def test_what_no_weight_can_be_is_refused(tmp_path, tensor, reason):
    torch.save({"model_state": {"head": tensor}}, tmp_path / "odd.pyth")
    with pytest.raises(ValueError, match=f"odd.pyth .*head {reason}"):
        release_file.read(tmp_path / "odd.pyth")


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "x" * 10_000])
def test_what_no_tensor_is_called_is_refused_unprinted(tmp_path, name):
    torch.save({"model_state": {name: torch.ones(1)}}, tmp_path / "odd.pyth")
    with pytest.raises(ValueError, match="no tensor is called") as refused:
        release_file.read(tmp_path / "odd.pyth")
    message = str(refused.value)
    assert message.isprintable() and len(message) < 200 + len(str(tmp_path))


@pytest.mark.parametrize("cfg", ["a: 2021-13-45", "a: !!int foo", "[" * 20_000])
def test_a_cfg_that_cannot_be_read_says_nothing(tmp_path, cfg):
    torch.save({"model_state": {"head": torch.ones(1)}, "cfg": cfg}, tmp_path / "odd.pyth")
    assert release_file.read(tmp_path / "odd.pyth").cfg == {}
