import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from vtn import config
from vtn.sections import Params

REPOSITORY = Path(__file__).parent.parent


def problems(tree):
    """The lines of the report that `tree` is refused with, its heading left out."""
    with pytest.raises(ValueError, match=r"^params: \d+ problem") as caught:
        config.parse(tree)
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"params: {len(lines)} problem(s)"
    return [line.strip() for line in lines]


def nested(**overrides):
    return config.override({}, {key.replace("__", "."): value for key, value in overrides.items()})


def test_the_defaults_are_the_numbers_of_params_yaml():
    assert config.load(REPOSITORY / "params.yaml") == Params()


def test_the_defaults_are_valid_and_survive_a_round_trip():
    params = config.parse({})
    assert params == Params()
    assert config.with_overrides(params, {}) == params


def test_params_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Params().train.epochs = 3


def test_load_reads_the_file_and_overrides_win(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("train:\n  epochs: 7\n  learning_rate: 1e-3\nmodel:\n  temporal:\n    window: [8, 16]\n")
    params = config.load(file, ["train.epochs=3", "clip.seconds=2.5", "dataset.annotations=a b.csv"])
    assert (params.train.epochs, params.train.learning_rate, params.clip.seconds) == (3, 1e-3, 2.5)
    assert params.model.temporal.windows == (8, 16)
    assert params.dataset.annotations == Path("a b.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not found: run from the repository's root, or name the file with --params"),
        (
            "seed: 1\ntrain: {epochs: 1}\ntrain: {}\n",
            'the key train stands twice in "<unicode string>", line 3',
        ),
        (
            "train: {epochs: 1, seed: 2, epochs: 3}",
            'the key epochs stands twice in "<unicode string>", line 1',
        ),
        ("train: [", "is not valid YAML: while parsing a flow node"),
        ("- train", "holds list, not sections"),
    ],
)
def test_a_file_that_is_no_params_is_refused_in_one_line(tmp_path, text, message):
    file = tmp_path / "params.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        config.load(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_utf8_is_refused_with_the_remedy(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_bytes("dataset: {folder: höhe}\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"params\.yaml is not UTF-8 \(.* at byte 19\); save it as UTF-8"):
        config.load(file)


def test_an_empty_file_means_the_defaults(tmp_path):
    file = tmp_path / "params.yaml"
    file.touch()
    assert config.load(file) == Params()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.epochs=3", ("train.epochs", 3)),
        ("train.clip_grad=null", ("train.clip_grad", None)),
        ("model.temporal.window=[2, 4]", ("model.temporal.window", [2, 4])),
        ("dataset.folder=a=b", ("dataset.folder", "a=b")),
    ],
)
def test_an_assignment_is_a_dotted_key_and_a_yaml_value(text, expected):
    assert config.parse_assignment(text) == expected


@pytest.mark.parametrize("text", ["train.epochs", "=3", "", "model.temporal.window=[2"])
def test_a_malformed_assignment_is_refused(text):
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        config.parse_assignment(text)


def test_override_leaves_the_original_alone_and_makes_missing_sections():
    tree = {"train": {"augment": {"erasing": 0.1}}}
    assert config.override(tree, {"train.augment.erasing": 0.5, "clip.frames": 4}) == {
        "train": {"augment": {"erasing": 0.5}},
        "clip": {"frames": 4},
    }
    assert tree == {"train": {"augment": {"erasing": 0.1}}}


def test_an_override_below_a_value_is_refused():
    with pytest.raises(ValueError, match=r"train\.epochs\.more: epochs is a value, not a section"):
        config.with_overrides(Params(), {"train.epochs.more": 1})


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("trian.epochs", "trian: unknown key; did you mean train?"),
        ("train.epoch", "train.epoch: unknown key; did you mean train.epochs?"),
        (
            "model.temporal.windows",
            "model.temporal.windows: unknown key; did you mean model.temporal.window?",
        ),
        ("qqq", "qqq: unknown key; known here: dataset, decode, clip, "),
    ],
)
def test_an_unknown_key_names_its_nearest_neighbour(key, message):
    assert problems(config.override({}, {key: 1}))[0].startswith(message)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("train.epochs", 0, "greater than or equal to 1"),
        ("train.learning_rate", "fast", "valid number"),
        ("dataset.name", "kinetics", "'motions' or 'folder'"),
        ("dataset.motions.size", 33, "multiple of 2"),
        ("model.temporal.window", "wide", "valid integer"),
        ("model.temporal.window", [2, 0, 2], "greater than or equal to 1"),
        ("decode.max_fps", -1, "greater than 0"),
        ("evaluate.views.crops", 2, "1 or 3"),
        ("seed", -1, "greater than or equal to 0"),
    ],
)
def test_a_refused_value_is_reported_with_its_key_as_written(key, value, rule):
    lines = problems(config.override({}, {key: value}))
    assert all(line.startswith(f"{key}: ") for line in lines)
    assert any(rule in line for line in lines)


CROSS_FIELD = {
    "clip.crop: 96 pixels do not fit into decode.short_side: 48": {"clip__crop": 96},
    "clip.frames: 8 in clip.seconds: 0.2 is 40 frames a second": {"clip__seconds": 0.2},
    "model.temporal.width: 30 is not a multiple of model.temporal.heads: 4": {"model__temporal__width": 30},
    "model.temporal.window: 3 windows for model.temporal.layers: 2": {"model__temporal__window": [2, 2, 2]},
    "model.temporal.window: 5 must be even": {"model__temporal__window": 5},
    "dataset.val_share: 0.5 and dataset.test_share: 0.5": {
        "dataset__val_share": 0.5,
        "dataset__test_share": 0.5,
    },
    "train.augment.min_scale: 1.5 is above train.augment.max_scale: 1.0": {"train__augment__min_scale": 1.5},
    "train.augment.max_scale: 2.0 times clip.crop: 48": {"train__augment__max_scale": 2},
    "train.warmup_epochs: 5 must stay below train.epochs: 5": {"train__warmup_epochs": 5},
    "train.decay_epochs: empty": {"train__schedule": "step"},
    "model.backbone.pretrained: true and model.backbone.weights: w.pt exclude": {
        "model__backbone__pretrained": True,
        "model__backbone__weights": "w.pt",
    },
    "model.backbone.frozen: true with random weights": {"model__backbone__frozen": True},
    "evaluate.rate: 30 frames a second, but decode.max_fps: 8 keeps fewer": {"evaluate__rate": 30},
    "evaluate.sampling: reference needs decode.max_fps: null, not 8": {"evaluate__sampling": "reference"},
    "evaluate.sampling: reference needs evaluate.rate, the release's is 25": {
        "evaluate__sampling": "reference"
    },
}


@pytest.mark.parametrize("start", CROSS_FIELD)
def test_an_impossible_combination_is_refused(start):
    found = problems(nested(**CROSS_FIELD[start]))
    assert any(line.startswith(start) for line in found)


def test_all_impossible_combinations_are_reported_at_once():
    found = problems(nested(clip__crop=96, model__temporal__window=5, train__schedule="step"))
    for key in ("clip.crop", "model.temporal.window", "train.decay_epochs"):
        assert any(line.startswith(f"{key}: ") for line in found)


def test_an_unlimited_frame_rate_allows_any_clip_rate():
    assert config.parse(nested(decode__max_fps=None, clip__seconds=0.1)).clip.rate == pytest.approx(80)


def test_frame_numbers_are_allowed_where_all_frames_and_a_rate_are_there():
    reference = nested(evaluate__sampling="reference", evaluate__rate=25, decode__max_fps=None)
    assert config.parse(reference).evaluate.sampling == "reference"
    assert Params().evaluate.sampling == "time"


def test_one_epoch_needs_no_shorter_warm_up():
    assert config.parse(nested(train__epochs=1, train__warmup_epochs=1)).train.epochs == 1


def test_the_recipe_of_ablations_is_named_by_its_own_keys():
    params = config.parse(nested(train__warmup_epochs=3, ablate__epochs=2))
    with pytest.raises(ValueError, match=r"train\.warmup_epochs: 3 must stay below ablate\.epochs: 2;"):
        config.for_ablation(params)
    assert config.for_ablation(Params()).train.learning_rate == Params().ablate.learning_rate
    with pytest.raises(
        ValueError, match=r"-S train\.epochs: rows of ablations follow ablate\.epochs; override"
    ):
        config.for_ablation(Params(), asked=["seed", "train.epochs"])


def test_a_table_without_its_file_is_refused_with_the_known_names(tmp_path):
    for name in ("depth", "paper/frames"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").touch()
    config.check_tables(config.parse(nested(ablate__tables=["depth", "paper/frames"])), tmp_path)
    for name, remedy in (("depht", r"did you mean depth\?"), ("x", "known are depth, paper/frames")):
        with pytest.raises(ValueError, match=rf"ablate\.tables: .*/{name}\.yaml not found; {remedy}"):
            config.check_tables(config.parse(nested(ablate__tables=["depth", name])), tmp_path)


def test_one_window_counts_for_each_layer():
    assert config.parse(nested(model__temporal__layers=3)).model.temporal.windows == (4, 4, 4)


def test_flatten_and_override_are_inverse():
    tree = Params().model_dump(mode="json")
    assert config.override({}, config.flatten(tree)) == tree


def test_known_keys_are_the_sections_and_everything_in_them():
    known = set(config.known_keys())
    leaves = set(config.flatten(Params().model_dump()))
    assert leaves <= known
    assert {key for leaf in leaves for key in (leaf.rpartition(".")[0],) if key} <= known
    assert {"train", "train.augment", "train.augment.erasing", "seed"} <= known
