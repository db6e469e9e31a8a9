"""A sweep that cannot be finished is refused before it begins."""

from functools import partial
from itertools import product
from types import SimpleNamespace

import pytest
import yaml

from sweeps import run
from vtn.sections import Params
from vtn.study import Study

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


def test_rows_stand_in_the_order_of_their_values_lists_and_null_among_them():
    space = {"model.temporal.window": [[4, 8], [2, 4]], "evaluate.rate": [2.0, None]}
    wanted = Study.model_validate({**STUDY, "space": space})
    points = [dict(zip(space, point, strict=True)) for point in product(*space.values())]
    trials = [SimpleNamespace(params=point) for point in reversed(points)]
    assert [trial.params for trial in sorted(trials, key=partial(run._place, wanted))] == points
