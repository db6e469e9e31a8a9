"""Tables and sweeps are checked when they are read, and those of the repository fit params.yaml."""

from pathlib import Path

import pytest
import yaml

from vtn import config, study
from vtn.sections import Params
from vtn.study import Row, Study

REPOSITORY = Path(__file__).parent.parent
TABLES = sorted(REPOSITORY.glob("pipelines/ablations/*.yaml"))
STUDIES = sorted(REPOSITORY.glob("sweeps/studies/*.yaml"))
SWEEP = {
    "title": "t",
    "why": "w",
    "features": "none",
    "space": {"clip.frames": [2, 4]},
    "objectives": {"top1": "maximize"},
    "report": ["top1", "latency_ms_p50"],
}
TABLE = {
    "title": "t",
    "why": "w",
    "features": "none",
    "rows": [{"name": "base"}, {"name": "deep", "set": {"model.temporal.layers": 3}}],
    "report": ["top1", "latency_ms_p50"],
}


def write(folder, tree):
    (folder / "mine.yaml").write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
    return study.load("mine", folder)


def ids(path):
    return path.stem


@pytest.fixture(scope="module")
def params() -> Params:
    return config.load(REPOSITORY / "params.yaml")


@pytest.mark.parametrize("path", TABLES, ids=ids)
def test_every_row_of_the_tables_fits_the_params(path, params):
    table = study.load(path.stem, path.parent)
    assert len(table.rows) >= 2
    names = [row.name for row in table.rows]
    assert len(set(names)) == len(names)
    study.check_rows(config.for_ablation(params), table, file=path)


@pytest.mark.parametrize("path", STUDIES, ids=ids)
def test_every_point_of_the_studies_fits_the_params(path, params):
    sweep = study.load(path.stem, path.parent)
    assert sweep.is_grid and set(sweep.objectives) <= set(sweep.report)
    study.check_rows(params, sweep, file=path)


def test_every_table_of_the_params_exists(params):
    assert set(params.ablate.tables) == {path.stem for path in TABLES}


RANGES = {"train.warmup_epochs": {"low": 0, "high": 9}, "clip.seconds": {"low": 1.0, "high": 2.0}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"rows": [{"name": "base"}, {"name": "fast", "set": {"clip.frames": 64}}]},
            "row 'fast': .*64 in clip",
        ),
        (
            {"rows": [], **SWEEP, "space": {"clip.frames": [2, 64]}},
            "row 'clip.frames=64': .*64 in clip.seconds",
        ),
        (
            {"rows": [], **SWEEP, "space": RANGES, "trials": 3},
            "row 'train.warmup_epochs=9, clip.seconds=1.0': .*train.warmup_epochs: 9 must stay below train.epochs",
        ),
    ],
    ids=["table", "grid", "corner of ranges"],
)
def test_an_impossible_row_point_or_corner_is_found_before_any_is_trained(params, change, message):
    wanted = Study(**{**TABLE, **change})
    with pytest.raises(ValueError, match=rf"(?s)^mine\.yaml: {message}"):
        study.check_rows(params, wanted, file=Path("mine.yaml"))


def test_a_row_is_the_params_then_the_base_then_its_own_changes(params):
    wanted = Study(**{**TABLE, "base": {"clip.frames": 4, "model.temporal.layers": 1}})
    base, deep = (study.row_params(params, wanted, row.set, row=row.name) for row in wanted.rows)
    assert (base.clip.frames, base.model.temporal.layers) == (4, 1)
    assert (deep.clip.frames, deep.model.temporal.layers) == (4, 3)
    assert deep.model.head == params.model.head


@pytest.mark.parametrize(
    "key", ["model.backbone.name", "clip.crop", "decode.quality", "dataset.name", "train.augment.erasing"]
)
def test_a_study_on_trained_features_may_not_touch_the_backbone_or_its_input(params, key):
    wanted = Study(**{**TABLE, "features": "trained", "rows": (Row(name="bad", set={key: 1}),)})
    with pytest.raises(ValueError, match=rf"row 'bad': {key} changes the backbone .* features: none"):
        study.row_params(params, wanted, wanted.rows[0].set, row="bad")


def test_a_row_that_does_not_fit_is_named_with_the_nearest_key(params):
    wanted = Study(**TABLE)
    with pytest.raises(ValueError, match=r"row 'odd': .*\n.*clip\.frame: unknown key; .*clip\.frames"):
        study.row_params(params, wanted, {"clip.frame": 2}, row="odd")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"space": {}}, "give either rows"),
        ({"rows": [{"name": "r"}]}, "give either rows"),
        ({"objectives": {}}, "a space needs objectives"),
        ({"space": {"train.learning_rate": {"low": 0.1, "high": 1.0}}}, "ranges needs trials"),
        ({"features": "some"}, "features: "),
        ({"colour": 1}, "colour: Extra inputs"),
        ({"space": {"clip.frames": []}}, "space"),
        ({"space": {"clip.frames": [2, 4, 2]}}, r"space\.clip\.frames: \[2, 4, 2\] names a value twice"),
        ({"objectives": {"top1": "up"}}, r"objectives\.top1"),
        (
            {"objectives": {"Top1": "maximize"}},
            r"objectives\.Top1.*: Top1 is no number of a row; did you mean top1",
        ),
        (
            {"report": ["top1", "latency_p50"]},
            r"report\.1: latency_p50 is no .* did you mean latency_ms_p50\?",
        ),
        ({"report": ["protocol"]}, r"report\.0: protocol is no number of a row; known are top1, top5, "),
        ({"report": ["top1", "latency_ms_p50", "top1"]}, "names a number twice"),
        ({"report": ["top1"]}, "the picture is drawn of latency_ms_p50 too"),
        (
            {"objectives": {"top1": "maximize", "gmacs": "minimize"}},
            "the picture is drawn of gmacs too",
        ),
        ({"space": {"seed": {"low": 2, "high": 1}}, "trials": 2}, "low: 2 is above high: 1; swap them"),
        ({"space": {"seed": {"low": 0, "high": 1, "log": True}}, "trials": 2}, "low: 0 must be above 0"),
    ],
)
def test_a_wrong_study_is_refused_with_file_and_rule(tmp_path, change, rule):
    with pytest.raises(ValueError, match=rf"mine\.yaml: .*{rule}"):
        write(tmp_path, {**SWEEP, **change})


def test_what_is_asked_for_counts_more_than_the_base(params):
    base = {"train.epochs": 24, "evaluate": {"split": "val", "rate": 2.0}}
    wanted = Study(**{**SWEEP, "base": base})
    for asked, kept in (
        ([], {"train.epochs", "evaluate.split", "evaluate.rate"}),
        (["train.epochs"], {"evaluate.split", "evaluate.rate"}),
        (["evaluate", "train.epoch"], {"train.epochs"}),
    ):
        assert set(wanted.yielding_to(asked).base) == kept
    for asked in ("clip.frames", "clip"):
        with pytest.raises(
            ValueError, match=rf"-S {asked}: the points of 't' differ in it; override another"
        ):
            wanted.yielding_to(["seed", asked])
    with pytest.raises(ValueError, match=r"-S model\.temporal\.layers: the points of 't' differ in it"):
        Study(**TABLE).yielding_to(["model.temporal.layers"])
    wanted = Study(**{**SWEEP, "space": {"clip": [{"frames": 2}, {"frames": 4}]}})
    with pytest.raises(ValueError, match=r"-S clip\.frames: the points of 't' differ in it"):
        wanted.yielding_to(["clip.frames"])


def test_ranges_with_trials_are_a_search_and_lists_alone_a_grid(tmp_path):
    space = {"train.learning_rate": {"low": 0.1, "high": 1.0}}
    assert not write(tmp_path, {**SWEEP, "space": space, "trials": 3}).is_grid
    assert write(tmp_path, SWEEP).is_grid
    assert not write(tmp_path, {**SWEEP, "trials": 3}).is_grid


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"other\.yaml not found; there are none"):
        study.load("other", tmp_path)
    write(tmp_path, SWEEP)
    with pytest.raises(ValueError, match=r"other\.yaml not found; there are mine"):
        study.load("other", tmp_path)


@pytest.mark.parametrize(("text", "rule"), [("a: [", "is not valid YAML"), ("- 1", "the study: ")])
def test_a_file_that_is_no_study_is_refused(tmp_path, text, rule):
    with pytest.raises(ValueError, match=rf"mine\.yaml.* {rule}"):
        write(tmp_path, text)


@pytest.mark.parametrize("changes", [{"model": {"backbone": {"name": "test_vit"}}}, {"clip": {"crop": 32}}])
def test_a_section_as_a_whole_does_not_get_past_a_trained_backbone_nor_reset_its_other_keys(changes):
    kept = Study.model_validate({**TABLE, "features": "trained"})
    with pytest.raises(ValueError, match="features: trained keeps both"):
        study.row_params(Params(), kept, changes, row="r")
    free = Study.model_validate({**TABLE, "features": "none"})
    start = Params().model_copy(update={"seed": 3})
    params = study.row_params(start, free, {"model": {"temporal": {"layers": 1}}}, row="r")
    assert params.model.temporal == Params().model.temporal.model_copy(update={"layers": 1})
