"""A run's identity: written whole, read back, and keys that follow content alone."""

import json
import re

import pytest

from vtn import identity


def described():
    return identity.describe(
        kind="train", name="n", experiment="e", params={"seed": 0}, data={"name": "d"}, device="a CPU"
    )


def test_a_key_follows_the_facts_and_not_their_order():
    assert identity.content_key({"a": 1, "b": [2]}) == identity.content_key({"b": [2], "a": 1})
    assert identity.content_key({"a": 1}) != identity.content_key({"a": 2})
    assert re.fullmatch(r"[0-9a-f]{12}", identity.content_key({}))


def test_every_run_has_a_uid_of_its_own_and_the_same_code():
    one, other = described(), described()
    assert one["uid"] != other["uid"]
    assert one["code_sha256"] == other["code_sha256"] == identity.code_hash()
    assert one["packages"]["torch"] and set(one["git"]) == {"commit", "dirty"}


def test_the_code_hash_sees_every_edit(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "identity.py").write_text("a = 1\n")
    (tmp_path / "data/clips.py").write_text("b = 1\n")
    monkeypatch.setattr(identity, "__file__", str(tmp_path / "identity.py"))
    hashes = [identity.code_hash()]
    (tmp_path / "data/clips.py").write_text("b = 2\n")
    hashes.append(identity.code_hash())
    (tmp_path / "data/clips.py").rename(tmp_path / "data/other.py")
    hashes.append(identity.code_hash())
    assert len(set(hashes)) == 3


def test_outside_a_checkout_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert described()["git"] == {"commit": None, "dirty": None}


def test_what_is_written_is_read(tmp_path):
    run = described()
    identity.write(tmp_path, run)
    assert identity.read(tmp_path) == json.loads(json.dumps(run))
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"run\.json not found: .* holds no finished run"):
        identity.read(tmp_path)
