import pytest
import torch

from vtn.model import vtn
from vtn.runtime import contenders
from vtn.runtime.baselines import BASELINES
from vtn.runtime.contenders import PAPER, VTNS, ByChunks, choose, rows
from vtn.sections import HeadConfig, ModelConfig, TemporalConfig


def test_every_model_has_its_protocols_once():
    names = [row.name for row in rows()]
    assert len(set(names)) == len(names)
    assert {row.model for row in rows()} == {*VTNS, *(baseline.name for baseline in BASELINES)}
    assert set(PAPER) <= {row.model for row in rows()}


@pytest.mark.parametrize("name", VTNS)
def test_a_vtn_has_the_parameters_of_table_6(name):
    with torch.device("meta"):
        model = choose([f"{name}.whole"])[0].build()
    assert vtn.parameter_count(model) / 1e6 == pytest.approx(PAPER[name].parameters_m, rel=0.005)


def test_the_published_rows_give_the_ratios_of_the_abstract():
    ours, theirs = PAPER["vit_b_vtn_1"], PAPER["slowfast_16x8_r101"]
    assert theirs.views_minutes / ours.whole_minutes == pytest.approx(5.1, abs=0.05)
    assert theirs.views_gmacs / ours.whole_gmacs == pytest.approx(1.5, abs=0.05)


def test_frames_by_chunks_give_what_one_pass_gives(monkeypatch):
    monkeypatch.setattr(contenders, "CHUNK", 4)
    temporal = TemporalConfig(layers=1, feedforward=32, window=4)
    torch.manual_seed(0)
    model = vtn.build(
        ModelConfig(temporal=temporal, head=HeadConfig(hidden=16)), num_classes=5, crop=32
    ).eval()
    frames = torch.randn(2, 10, 3, 32, 32)
    with torch.inference_mode():
        whole = model(frames, torch.arange(10).expand(2, -1))
        torch.testing.assert_close(ByChunks(model)(frames), whole)


def test_rows_say_their_protocol():
    found = {row.name: row for row in rows()}
    assert found["vit_b_vtn_1.whole"].protocol == "250 frames x 1 view @ 224"
    slowfast = found["slowfast_16x8_r101.views"]
    assert slowfast.protocol == "64 frames x 30 views (10 clips x 3 crops) @ 256, one timed"
    assert slowfast.views == 30
    assert found["slowfast_16x8_r101.whole"].frames == 252  # a multiple of four
    assert {row.frames for row in rows(40) if row.kind == "whole"} == {40}


def test_rows_are_chosen_by_row_or_by_model():
    assert [row.name for row in choose(None)] == [row.name for row in rows()]
    assert [row.name for row in choose(["x3d_m.views", "r50_vtn"])] == [
        "r50_vtn.whole",
        "r50_vtn.views",
        "x3d_m.views",
    ]
    with pytest.raises(ValueError, match=r"--rows: no row vivit_b.whole; there are vit_b_vtn_1.whole, "):
        choose(["vivit_b.whole", "x3d_m"])


def test_an_absent_library_is_named_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(
        contenders, "find_spec", lambda library: None if library == "pytorchvideo" else library
    )
    contenders.check_installed(choose(["vit_b_vtn_1", "timesformer_b"]))
    with pytest.raises(
        ValueError,
        match=r"pytorchvideo is not installed: run `make baselines`, or give --rows some of vit_b_vtn_1, ",
    ):
        contenders.check_installed(choose(None))
