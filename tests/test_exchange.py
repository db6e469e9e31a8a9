"""Weights of the release become ours and go back, bit for bit; whatever was assumed is said."""

import json
import shlex
from itertools import product

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_model import CLASSES, SIDE, write_checkpoint, write_clip

from pipelines import evaluate
from vtn import cli, config, experiment
from vtn.data.corpus import Corpus
from vtn.data.packing import pack
from vtn.exchange import Told, export_checkpoint, import_checkpoint
from vtn.model import checkpoint, release, release_file
from vtn.model.vtn import build
from vtn.sections import BackboneConfig, DecodeConfig, HeadConfig, ModelConfig, TemporalConfig

VIT = BackboneConfig(
    name="vit_base_patch16_224",
    options={"embed_dim": 24, "patch_size": 16, "depth": 1, "num_heads": 4, "mlp_ratio": 2.0},
)
CFG = {"VTN": {"NUM_ATTENTION_HEADS": 2, "ATTENTION_WINDOW": [4, 6]}}


def released(*, backbone=VIT, **temporal):
    """The state of a tiny VTN in the release's form."""
    torch.manual_seed(0)
    options = {"layers": 2, "heads": 4, "feedforward": 16, "window": 4, "position": "learned"}
    model = build(
        ModelConfig(
            backbone=backbone,
            temporal=TemporalConfig(**options | {"max_positions": 32} | temporal),
            head=HeadConfig(hidden=8),
        ),
        num_classes=len(CLASSES),
        crop=SIDE,
    )
    return release.to_release(model)


@pytest.fixture
def file(tmp_path):
    """A checkpoint of the release whose cfg says nothing, with the index of old versions."""
    path = tmp_path / "tiny.pyth"
    index = {"temporal_encoder.embeddings.position_ids": torch.arange(32)[None]}
    release_file.write(path, released() | index, {})
    return path


@pytest.fixture
def names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("".join(f"{name}\n" for name in CLASSES))
    return path


def imported(file, **told):
    """The lines of an import, the model and the card."""
    out = file.parent / "imported"
    lines = import_checkpoint(file, out, Told(**told))
    return "\n".join(lines), *checkpoint.load(out)


def test_there_and_back_gives_the_same_tensors_bit_for_bit(file, tmp_path):
    said, _, _ = imported(file)
    assert "left out: temporal_encoder.embeddings.position_ids (an index, no weight)" in said
    lines = "\n".join(export_checkpoint(tmp_path / "imported", tmp_path / "back.pyth"))
    assert "left out: temporal_encoder.embeddings.position_ids" in lines
    before, after = release_file.read(file).state, release_file.read(tmp_path / "back.pyth").state
    assert before.keys() - after.keys() == set(release.TOLERATED)
    assert after.keys() < before.keys()
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype and torch.equal(tensor, before[name]), name


def test_an_export_says_in_its_cfg_all_that_an_import_would_assume(file, names, tmp_path):
    _, model, card = imported(file, heads=2, window=[4, 6], classes=names)
    model.backbone.set_normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    card = card.model_copy(update={"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)})
    checkpoint.save(tmp_path / "ours", model, card)
    export_checkpoint(tmp_path / "ours", tmp_path / "back.pyth")
    said, _, again = imported(tmp_path / "back.pyth")
    assert (again.model, again.classes, again.parameters) == (card.model, CLASSES, card.parameters)
    assert (again.mean, again.std) == (pytest.approx((0.1, 0.2, 0.3)), pytest.approx((0.4, 0.5, 0.6)))
    assert "heads 2 as the file's cfg says" in said and "window 4 6 as the file's cfg says" in said
    assert "as CLASS_NAMES of its cfg says" in said


def test_an_imported_card_follows_the_release(file):
    said, model, card = imported(file)
    assert (card.clip.frames, card.clip.seconds, card.clip.crop, card.clip.position_rate) == (
        16,
        5.12,
        32,
        25,
    )
    assert (card.decode.short_side, card.decode.max_fps) == (37, None)
    assert (card.rate, card.max_frames, card.sampling) == (25, 250, "reference")
    assert (card.mean, card.std) == (pytest.approx(release.MEAN), pytest.approx(release.STD))
    assert (card.run, card.data) == (None, None)
    assert card.classes[0] == "class_000" and len(card.classes) == len(CLASSES)
    assert model.temporal.stack[0].attention.kind == "window"
    assert "missing keys: none; unexpected keys: none" in said
    assert f"sha256 {release_file.read(file).sha256} (not known)" in said


def test_heads_and_window_that_nothing_names_are_the_release_s_and_said_to_be_assumed(file):
    said, _, card = imported(file)
    assert (card.model.temporal.heads, card.model.temporal.window) == (4, 18)
    assert "heads 4 assumed: no tensor tells; --heads N names another" in said
    assert "window 18 assumed: no tensor tells; --window N names another" in said
    assert "its heads are assumed" in said  # the backbone's


def test_the_encoder_s_heads_are_64_wide_where_that_divides(tmp_path):
    release_file.write(tmp_path / "a.pyth", released(backbone=BackboneConfig(name="test_vit")), {})
    said, _, card = imported(tmp_path / "a.pyth", backbone="test_vit")
    assert (card.features, card.model.temporal.heads, card.model.backbone.name) == (64, 1, "test_vit")
    assert "backbone test_vit at 32 pixels, as asked" in said


def test_the_cfg_names_heads_and_windows_and_the_user_has_the_last_word(file):
    release_file.write(file, release_file.read(file).state, CFG)
    _, _, card = imported(file)
    assert (card.model.temporal.heads, card.model.temporal.window) == (2, (4, 6))
    said, _, card = imported(file, heads=3, window=[8])
    assert (card.model.temporal.heads, card.model.temporal.window) == (3, 8)
    assert "heads 3 as asked" in said


@pytest.mark.parametrize("section", [None, [], {"NUM_ATTENTION_HEADS": "many", "ATTENTION_WINDOW": ["x"]}])
@pytest.mark.parametrize(
    ("mean", "std"),
    [(1, 1), ([0.5, 0.5, float("nan")], 1), ([True] * 3, 1), ([1e300] * 3, 1), ([0.2] * 3, 1e-300)],
)
def test_a_cfg_that_makes_no_sense_names_nothing(file, section, mean, std):
    cfg = {"VTN": section, "DATA": {"MEAN": mean, "STD": [std] * 3}, "CLASS_NAMES": [[]] * len(CLASSES)}
    release_file.write(file, release_file.read(file).state, cfg)
    said, _, card = imported(file)
    assert "heads 4 assumed" in said and "window 18 assumed" in said
    assert card.mean == pytest.approx(release.MEAN) and card.classes[0] == "class_000"


def test_lists_of_lists_without_end_are_no_class_names(file):
    """YAML's aliases make a few lines stand for more names than memory holds."""
    bomb = "\n".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(30))
    state = release_file.read(file).state
    cfg = f"a0: &a0 [run]\n{bomb}\nCLASS_NAMES: *a30"
    torch.save({"model_state": state, "cfg": cfg}, file)
    _, _, card = imported(file)
    assert card.classes[0] == "class_000"


@pytest.mark.parametrize("size", [True, -1, 0, "224"])
def test_a_crop_that_makes_no_sense_is_the_release_s(tmp_path, size):
    state = released(backbone=BackboneConfig(name="test_resnet"))
    release_file.write(tmp_path / "a.pyth", state, {"DATA": {"TEST_CROP_SIZE": size}})
    _, _, card = imported(tmp_path / "a.pyth", backbone="test_resnet")
    assert card.clip.crop == release.CROP


DAMAGES = {
    "gone": lambda state, name: state.pop(name),
    "renamed": lambda state, name: state.update({name.replace(".0.", ".7.") + "s": state.pop(name)}),
    "empty": lambda state, name: state.update({name: state[name][:0]}),
    "hollow": lambda state, name: state.update({name: state[name][..., :0]}),
    "a number": lambda state, name: state.update({name: torch.ones(())}),
    "too deep": lambda state, name: state.update({name: state[name][None]}),
    "one row": lambda state, name: state.update({name: state[name][:1]}),
    "one column": lambda state, name: state.update({name: state[name][..., :1]}),
}


DAMAGED = [
    "cls_token",
    "mlp_head.1.bias",
    "mlp_head.4.bias",
    "temporal_encoder.embeddings.position_embeddings.weight",
    f"{release.LAYER}.0.intermediate.dense.bias",
    "backbone.pos_embed",
    "backbone.patch_embed.proj.weight",
    "backbone.blocks.0.mlp.fc1.weight",
    "backbone.blocks.0.mlp.fc1.bias",
]
ONE_ROW_ALREADY = ("cls_token", "backbone.pos_embed")


@pytest.mark.parametrize(
    ("name", "damage"),
    [pair for pair in product(DAMAGED, DAMAGES) if pair not in product(ONE_ROW_ALREADY, ["one row"])],
)
def test_whatever_is_damaged_is_refused_in_one_line(tmp_path, name, damage):
    state = released()
    DAMAGES[damage](state, name)
    release_file.write(tmp_path / "a.pyth", state, {})
    with pytest.raises(ValueError, match=r"a\.pyth") as refused:
        imported(tmp_path / "a.pyth")
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("layers", [40, 400])
def test_layers_without_weights_are_listed_as_missing(file, layers):
    state = release_file.read(file).state
    bias = state[f"{release.LAYER}.0.intermediate.dense.bias"]
    release_file.write(
        file, state | {f"{release.LAYER}.{n}.intermediate.dense.bias": bias for n in range(layers)}, {}
    )
    with pytest.raises(ValueError, match=r"a VTN|missing"):
        imported(file)


def test_a_backbone_that_is_no_plain_vit_has_to_be_named(tmp_path):
    state = released(backbone=BackboneConfig(name="test_resnet"))
    release_file.write(tmp_path / "a.pyth", state, {"DATA": {"TEST_CROP_SIZE": SIDE}})
    with pytest.raises(ValueError, match=r"a\.pyth: its backbone is no plain ViT.*--backbone.*resnet50"):
        imported(tmp_path / "a.pyth")
    _, _, card = imported(tmp_path / "a.pyth", backbone="test_resnet")
    assert (card.model.backbone.name, card.clip.crop) == ("test_resnet", SIDE)
    with pytest.raises(
        ValueError,
        match=r"missing backbone\..* more; unexpected backbone\..* more; .*--backbone names another",
    ):
        imported(tmp_path / "a.pyth", backbone="test_efficientnet")
    with pytest.raises(ValueError, match="'resnet5000' is no timm model; did you mean"):
        imported(tmp_path / "a.pyth", backbone="resnet5000")


def test_another_architecture_is_refused_with_what_it_lacks(tmp_path):
    release_file.write(tmp_path / "a.pyth", {"s1.pathway0_stem.conv.weight": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match=r"a\.pyth: not a VTN of the release: it has no cls_token, "):
        imported(tmp_path / "a.pyth")
    assert not (tmp_path / "imported").exists()


def test_missing_and_unexpected_keys_are_listed(file):
    state = release_file.read(file).state
    state["extra"] = state.pop("mlp_head.0.bias")
    release_file.write(file, state, {})
    with pytest.raises(ValueError, match=r"missing mlp_head\.0\.bias; unexpected extra"):
        imported(file)


def test_class_names_are_as_many_as_the_classes_and_different(file, names):
    said, _, card = imported(file, classes=names)
    assert card.classes == CLASSES and "classes fall to wave, as --classes" in said
    names.write_text("fall\nfall\n\n")
    with pytest.raises(ValueError, match=r"names\.txt: 2 names, 1 of them different, for 6 classes"):
        imported(file, classes=names)
    names.write_text("".join(f"{name}\x1b[2J\n" for name in CLASSES))
    with pytest.raises(ValueError, match=r"names\.txt: 'fall.x1b\[2J' holds control characters"):
        imported(file, classes=names)
    names.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"names\.txt cannot be read \(it is no text in UTF-8\)"):
        imported(file, classes=names)
    with pytest.raises(ValueError, match=r"absent cannot be read \(No such file or directory\); give a text"):
        imported(file, classes=names.with_name("absent"))


def test_a_published_name_with_other_bytes_is_warned_of(file):
    path = file.rename(file.with_name("VTN_VIT_B_KINETICS.pyth"))
    said, _, _ = imported(path)
    assert "warning: VTN_VIT_B_KINETICS.pyth of the release has sha256 779682d33e7a" in said


def test_only_what_an_import_left_is_replaced(file, tmp_path):
    imported(file)
    imported(file)
    write_checkpoint(tmp_path / "trained", run="r1")
    with pytest.raises(ValueError, match=r"trained holds a model trained here \(run r1\); move it away"):
        import_checkpoint(file, tmp_path / "trained", Told())
    with pytest.raises(ValueError, match="exists and holds no checkpoint; name another"):
        import_checkpoint(file, tmp_path, Told())
    checkpoint.load(tmp_path / "trained")
    assert file.is_file()


def test_what_the_release_cannot_express_is_not_exported(tmp_path):
    write_checkpoint(tmp_path / "vtn")
    with pytest.raises(ValueError, match="the release has no such model: its positions are sinusoidal"):
        export_checkpoint(tmp_path / "vtn", tmp_path / "a.pyth")
    assert not (tmp_path / "a.pyth").exists()


def test_the_commands_import_predict_and_export(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4", frames=12)
    cli.main(["import-checkpoint", "tiny.pyth", "--window", "4", "6"])
    assert "written to models/imported; next: vtn predict --model models/imported VIDEO" in (
        capsys.readouterr().out
    )
    cli.main(["predict", "--model", "models/imported", "clip.mp4"])
    assert "class_00" in capsys.readouterr().out
    cli.main(["export-checkpoint", "models/imported", "--out", "back.pyth"])
    assert (tmp_path / "back.pyth").is_file()
    with pytest.raises(SystemExit) as stop:
        cli.main(["import-checkpoint", "clip.mp4"])
    assert "error: clip.mp4 is no checkpoint of torch" in str(stop.value)


def test_the_golden_checkpoint_gives_the_release_s_logits(shared, tmp_path):
    golden = load_file(shared / "golden" / "full_vit_n9.safetensors")
    import_checkpoint(shared / "golden" / "tiny_vtn.pyth", tmp_path / "vtn", Told(window=[6]))
    model, card = checkpoint.load(tmp_path / "vtn")
    assert card.model.temporal.heads == 4 and len(card.classes) == 11
    frames = golden["input.frames"].transpose(1, 2)
    with torch.no_grad():
        logits = model(frames, golden["input.position_ids"])
    torch.testing.assert_close(logits, golden["output.logits"], rtol=0, atol=2e-5)


@pytest.fixture
def decoded(tmp_path):
    """One clip a class in training and test, all frames kept, where the evaluation looks for them."""
    clips = [f"{label}{split}.mp4" for label in CLASSES for split in ("train", "test")]
    for number, clip in enumerate(clips):
        write_clip(tmp_path / "videos" / clip, frames=8 + number)
    rows = pd.DataFrame(
        {
            "video": clips,
            "label": [label for label in CLASSES for _ in range(2)],
            "split": ["train", "test"] * len(CLASSES),
            "group": "",
        },
        dtype="str",
    )
    decode = DecodeConfig(short_side=37, max_fps=None, shards=1)
    pack(rows, tmp_path / "videos", tmp_path / "data" / "frames", decode=decode, workers=0)
    return Corpus.open(tmp_path / "data" / "frames")


EVALUATED = {
    "clip": {"crop": SIDE},
    "decode": {"short_side": 37, "max_fps": None},
    "evaluate": {
        "rate": 25,
        "max_frames": 15,
        "sampling": "reference",
        "speed": {"warmup": 1, "repeats": 5},
    },
    "tracking": {"enabled": False},
    "machine": {"device": "cpu", "workers": 0},
}


def test_an_imported_model_is_evaluated_with_its_own_params(file, names, decoded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import_checkpoint(file, evaluate.MODEL, Told(classes=names))
    params = config.parse(EVALUATED)
    with pytest.raises(ValueError, match="models/vtn was imported, not trained with these params") as refused:
        experiment.load_trained(params, decoded, evaluate.MODEL)
    # What the refusal names is what mends it.
    own = [text for text in shlex.split(str(refused.value).partition("set its own: ")[2]) if text != "-S"]
    params = config.with_overrides(params, dict(map(config.parse_assignment, own)))

    evaluate.evaluate(params)

    numbers = json.loads((evaluate.REPORT / "metrics.json").read_text())
    assert (
        numbers["protocol"] == "test split, release's frame numbers, first 0.6 s, 15 frames x 1 view @ 32/37"
    )
    run = json.loads((evaluate.REPORT / "run.json").read_text())
    assert run["kind"] == "evaluation" and run["params"]["evaluate"]["sampling"] == "reference"
