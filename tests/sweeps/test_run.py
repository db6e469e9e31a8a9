"""A sweep that cannot be finished is refused before it begins."""

import pytest
import yaml

from sweeps import run
from vtn.sections import Params

STUDY = {
    "title": "t",
    "why": "w",
    "features": "none",
    "space": {"clip.frames": [2, 64]},
    "objectives": {"top1": "maximize"},
    "report": ["top1", "latency_ms_p50"],
}


def test_an_impossible_point_is_told_before_a_search_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "STUDIES", tmp_path)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(STUDY))
    with pytest.raises(ValueError, match=r"mine\.yaml: row 'clip\.frames=64': "):
        run.sweep(Params(), "mine")
    assert not (tmp_path / "results").exists()
