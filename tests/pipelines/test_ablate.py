"""A table that cannot be filled is refused before its first row is trained."""

import pytest
import yaml

from pipelines import ablate
from vtn.sections import Params

TABLE = {
    "title": "t",
    "why": "w",
    "features": "none",
    "rows": [{"name": "base"}, {"name": "fast", "set": {"clip.frames": 64}}],
    "report": ["top1", "latency_ms_p50"],
}


def test_an_impossible_row_is_told_with_its_file_before_any_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "TABLES", tmp_path)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(TABLE))
    with pytest.raises(ValueError, match=r"mine\.yaml: row 'fast': "):
        ablate.ablate(Params(), "mine")
