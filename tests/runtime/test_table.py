import json
import math
import signal
from functools import partial

import pandas as pd
import pytest
import torch
from torch import nn

from pipelines import runtime
from vtn.runtime import contenders, table
from vtn.runtime.contenders import Row, choose
from vtn.sections import Params

ROWS = choose(["vit_b_vtn_1.whole", "slowfast_16x8_r101.views", "timesformer_b"])


def cost(seconds, gmacs=1.0):
    return {
        "latency_ms_p50": 1000 * seconds,
        "latency_ms_spread": 100 * seconds,
        "peak_memory_mb": 500.0,
        "parameters": 2_000_000,
        "gmacs": gmacs,
    }


def test_rows_measured_before_are_kept(tmp_path, capsys):
    table.fill(ROWS[:2], directory=tmp_path, measure=lambda row: cost(2.0))
    assert "1/2 vit_b_vtn_1.whole: 250 frames x 1 view @ 224: 2.00 s a video" in capsys.readouterr().out
    seen = []
    table.fill(ROWS, directory=tmp_path, measure=lambda row: seen.append(row.name) or cost(3.0))
    assert seen == ["timesformer_b.views"]
    assert json.loads((tmp_path / "vit_b_vtn_1.whole.json").read_text()) == cost(2.0)


@pytest.mark.parametrize("error", [MemoryError("its process was killed"), torch.OutOfMemoryError("CUDA")])
def test_a_row_that_fits_into_no_memory_is_said_left_out_and_tried_again(tmp_path, capsys, error):
    def measure(row):
        if row.model == "slowfast_16x8_r101":
            raise error
        return cost(1.0)

    table.fill(ROWS, directory=tmp_path, measure=measure)
    assert f"left out: {error}" in capsys.readouterr().out
    found = table.read(ROWS, directory=tmp_path, device="chip")
    assert list(found["row"]) == ["vit_b_vtn_1.whole", "timesformer_b.views"]
    table.fill(ROWS, directory=tmp_path, measure=lambda row: cost(1.0))
    assert len(table.read(ROWS, directory=tmp_path, device="chip")) == 3


def test_costs_are_of_a_whole_video_and_ratios_to_one_layer_of_vit_b(tmp_path):
    seconds = {"vit_b_vtn_1": 60.0, "slowfast_16x8_r101": 4.0, "timesformer_b": 5.0}
    table.fill(ROWS, directory=tmp_path, measure=lambda row: cost(seconds[row.model], gmacs=100.0))
    found = table.read(ROWS, directory=tmp_path, device="chip").set_index("row")
    slowfast = found.loc["slowfast_16x8_r101.views"]
    assert slowfast["seconds"] == pytest.approx(30 * 4.0)
    assert slowfast["seconds_ratio"] == pytest.approx(2.0)
    assert slowfast["gmacs"] == pytest.approx(30 * 100.0)
    assert slowfast["gmacs_ratio"] == pytest.approx(30.0)
    assert slowfast["paper_minutes_ratio"] == pytest.approx(244 / 48)
    assert slowfast["paper_gmacs_ratio"] == pytest.approx(6390 / 4214)
    assert slowfast["parameters_m"] == 2.0
    assert math.isnan(found.loc["timesformer_b.views", "paper_gmacs"])


def test_ratios_wait_for_the_row_they_refer_to(tmp_path):
    table.fill(ROWS[1:], directory=tmp_path, measure=lambda row: cost(1.0))
    found = table.read(ROWS, directory=tmp_path, device="chip")
    assert found["seconds_ratio"].isna().all()
    assert found["paper_minutes_ratio"].notna().any()
    assert table.read(ROWS, directory=tmp_path / "nothing", device="chip").empty


def test_a_pass_runs_in_a_process_of_its_own():
    assert table.apart(partial(divmod, 7, 2)) == (3, 1)
    with pytest.raises(MemoryError, match="its process was killed"):
        table.apart(partial(signal.raise_signal, signal.SIGKILL))


class Sum(nn.Module):
    """One weighted sum a frame."""

    def __init__(self):
        super().__init__()
        self.weigh = nn.Linear(3 * 8 * 8, 4, bias=False)

    def forward(self, frames):  # (B, T, C, H, W)
        return self.weigh(frames.flatten(2)).mean(1)


def test_a_row_is_measured_on_frames_of_its_size():
    row = Row("sum", Sum, frames=6, crop=8, views=3, protocol="")
    found = table.measure(row, device=torch.device("cpu"), repeats=2)
    assert found["gmacs"] * 1e9 == pytest.approx(6 * 3 * 8 * 8 * 4)
    assert found["parameters"] == 3 * 8 * 8 * 4


def test_the_command_adds_rows_to_one_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(table, "apart", lambda run: cost(1.0))
    monkeypatch.setattr(contenders, "find_spec", lambda library: library)
    for rows in (["x3d_m"], ["vit_b_vtn_1.whole"]):
        runtime.measure(Params(), rows=rows, frames=16, repeats=1)
    found = pd.read_csv(runtime.REPORT)
    assert list(found["row"]) == ["vit_b_vtn_1.whole", "x3d_m.views", "x3d_m.whole"]
    assert "16 frames x 1 view @ 224" in capsys.readouterr().out


@pytest.mark.parametrize(("frames", "repeats"), [(4, 1), (250, 0)])
def test_too_few_frames_or_repeats_are_refused(frames, repeats):
    with pytest.raises(
        ValueError, match=rf"--frames {frames} --repeats {repeats}: at least 8 frames and 1 repeat"
    ):
        runtime.measure(Params(), rows=None, frames=frames, repeats=repeats)
