"""Every preset is whole, builds, and is written without touching anything else."""

from pathlib import Path

import pytest
import torch
import yaml

from vtn import config, presets, study
from vtn.model import vtn
from vtn.sections import BackboneConfig, ModelConfig, Params

ROOT = Path(__file__).parent.parent
NAMES = (
    *("vit_b_vtn_3", "r50_vtn", "r101_vtn", "deit_b_vtn", "deit_b_distilled_vtn", "deit_ti_vtn"),
    *("vit_b_vtn_augmented", "vit_b_vtn_1", "vit_b_vtn_6", "vit_b_vtn_12", "vit_b_vtn_shuffled"),
    *("vit_b_vtn_fixed", "vit_b_vtn_fixed_shuffled", "vit_b_vtn_none", "vit_b_vtn_none_shuffled"),
    *("vit_b_vtn_2.56x16", "vit_b_vtn_2.56x32", "vit_b_vtn_5.12x32", "vit_b_vtn_frozen"),
)
TEXT = """\
dataset: {name: folder, folder: /videos}  # mine
model:
  temporal:
    layers: 1  # few
train:
  learning_rate: 1e-3      # as the release writes it
"""


@pytest.fixture(autouse=True)
def there(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def params_file(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    return path


def of(name):
    return config.with_overrides(Params(), presets.find(name).set)


def without_weights(model: ModelConfig) -> ModelConfig:
    return model.model_copy(update={"backbone": BackboneConfig(name=model.backbone.name)})


def test_every_row_of_the_papers_tables_is_a_preset():
    assert set(presets.known()) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_fits_the_schema_and_builds_without_weights(name):
    params = of(name)
    with torch.device("meta"):
        model = vtn.build(without_weights(params.model), num_classes=400, crop=params.clip.crop)
    assert len(model.temporal.layers) == params.model.temporal.layers


def test_rows_of_one_name_are_one_model():
    seen = {}
    for table in presets.tables():
        for row in table.rows:
            params = config.with_overrides(of(table.preset), {**table.base, **row.set})
            assert seen.setdefault(row.name, params) == params


def test_the_rows_also_run_on_the_params_that_use_writes():
    params = of("vit_b_vtn_3")
    for table in presets.tables():
        for row in table.rows:
            assert study.row_params(params, table, row.set, row=row.name) == of(row.name)


def test_the_release_is_written_whole_so_that_no_order_of_presets_matters():
    keys = set(config.flatten(Params().model_dump(mode="json")))
    written = set(presets.find("vit_b_vtn_3").set)
    sections = ("clip.", "model.", "train.")
    assert {key for key in keys - written if key.startswith(sections)} == {"train.precision"}
    assert all(set(presets.find(name).set) == written for name in NAMES)


def test_the_recipe_is_the_releases():
    params = of("vit_b_vtn_3")
    train, clip = params.train, params.clip
    assert (train.optimizer, train.learning_rate, train.weight_decay) == ("sgd", 1e-3, 1e-4)
    assert (train.epochs, train.decay_epochs, train.decay_rate) == (25, (13, 24), 0.1)
    assert (clip.frames / clip.rate, clip.crop, params.decode.short_side) == (5.12, 224, 256)
    # Cutting 0.8 of 224 from 256 pixels enlarges as much as cutting 224 from 320 would.
    assert params.decode.short_side / train.augment.min_scale == 320
    assert (of("r50_vtn").train.epochs, of("deit_ti_vtn").train.epochs) == (40, 60)


def test_using_a_preset_changes_its_keys_and_spares_comments_and_data(params_file):
    changes = presets.use("vit_b_vtn_1", params_file)
    text = params_file.read_text()
    assert text.startswith(
        "dataset: {name: folder, folder: /videos}  # mine\nmodel:\n  temporal:\n    layers: 1  # few\n"
    )
    assert "  learning_rate: 1e-3      # as the release writes it\n" in text
    params = config.load(params_file)
    assert (params.model, params.dataset.name) == (of("vit_b_vtn_1").model, "folder")
    assert "model.head.hidden: 96 -> 768" in map(str, changes)
    assert "train.clip_grad: 1.0 -> null" in map(str, changes)
    assert not any(change.key == "model.temporal.layers" for change in changes)


def test_a_change_of_many_values_at_once_says_what_was_there(params_file):
    params_file.write_text("model: {backbone: {options: {drop_path_rate: 0.1}}}\n")
    changes = presets.use("vit_b_vtn_3", params_file)
    assert "model.backbone.options: {drop_path_rate: 0.1} -> {}" in map(str, changes)


def test_a_second_use_changes_nothing(params_file):
    presets.use("r50_vtn", params_file)
    text = params_file.read_text()
    assert presets.use("r50_vtn", params_file) == []
    assert params_file.read_text() == text


def test_the_repositorys_params_keep_every_comment_and_every_other_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    before = path.read_text().splitlines()
    changes = presets.use("vit_b_vtn_12", path)
    after = path.read_text().splitlines()
    assert [line.partition("#")[2] for line in after] == [line.partition("#")[2] for line in before]
    assert [line.partition(":")[0] for line in after] == [line.partition(":")[0] for line in before]
    assert sum(old != new for old, new in zip(before, after, strict=True)) == len(changes)


def test_what_would_be_invalid_is_not_written(params_file, monkeypatch):
    bad = presets.Preset(summary="s", set={"model.temporal.layers": 3, "model.temporal.window": [2]})
    monkeypatch.setattr(presets, "find", lambda name: bad)
    with pytest.raises(ValueError, match=r"model\.temporal\.window"):
        presets.use("bad", params_file)
    assert params_file.read_text() == TEXT and list(params_file.parent.iterdir()) == [params_file]


def test_a_file_that_cannot_be_changed_alone_is_named_and_left(params_file):
    params_file.write_text(text := "model: &m {temporal: {layers: 1}}\nseed: &s 3\ntrain: {epochs: *s}\n")
    with pytest.raises(ValueError, match=r"params\.yaml: the file's YAML repeats keys or shares values"):
        presets.use("vit_b_vtn_3", params_file)
    assert params_file.read_text() == text


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(ValueError, match="no preset 'vit_vtn_3'; did you mean vit_b_vtn_3 or"):
        presets.find("vit_vtn_3")
    with pytest.raises(
        ValueError, match="no preset '???'; there are vit_b_vtn_3, r50_vtn, ".replace("?", r"\?")
    ):
        presets.find("???")


def test_outside_the_repository_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"no presets in presets: run from the repository's root"):
        presets.known()


@pytest.mark.parametrize(
    ("tree", "rule"),
    [
        ({"summary": "s", "set": {"dataset.name": "folder"}}, "set: .*dataset is the user's"),
        ({"summary": "s"}, "set: field required"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path, monkeypatch, tree, rule):
    (tmp_path / "presets").mkdir()
    text = tree if isinstance(tree, str) else yaml.safe_dump(tree)
    (tmp_path / "presets" / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"mine\.yaml.* {rule}"):
        presets.known()


def test_a_table_of_an_unknown_preset_is_named(tmp_path, monkeypatch):
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "mine.yaml").write_text("{summary: s, set: {seed: 1}}")
    table = {
        "title": "T9",
        "why": "w",
        "preset": "other",
        "features": "none",
        "rows": [{"name": "r"}],
        "report": ["top1", "latency_ms_p50"],
    }
    (tmp_path / presets.TABLES).mkdir(parents=True)
    (tmp_path / presets.TABLES / "odd.yaml").write_text(yaml.safe_dump(table))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="table 'T9': preset 'other' is not one of mine"):
        presets.known()
