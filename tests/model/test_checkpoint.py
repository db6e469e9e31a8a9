import json
from pathlib import Path

import pytest
import torch

from vtn.model import checkpoint
from vtn.model.vtn import build
from vtn.sections import (
    BackboneConfig,
    ClipConfig,
    DecodeConfig,
    HeadConfig,
    ModelConfig,
    Params,
    TemporalConfig,
)

CONFIG = ModelConfig(
    backbone=BackboneConfig(name="test_resnet"),
    temporal=TemporalConfig(layers=1, feedforward=16, position="learned"),
    head=HeadConfig(hidden=8),
)
CLIP = ClipConfig(frames=4, crop=32)
CLASSES = ("fall", "rise", "turn")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build(CONFIG, num_classes=3, crop=32)
    model.head.bfloat16()
    return model


@pytest.fixture
def saved(tmp_path, model):
    """A checkpoint whose backbone came from a weights file that is gone."""
    backbone = CONFIG.backbone.model_copy(update={"weights": Path("/gone/weights.pth")})
    config = CONFIG.model_copy(update={"backbone": backbone})
    params = Params(model=config, clip=CLIP, decode=DecodeConfig(short_side=40))
    card = checkpoint.describe(model, params, classes=CLASSES, run="r1")
    checkpoint.save(tmp_path / "vtn", model, card)
    return tmp_path / "vtn"


def edit(directory, **changes):
    path = directory / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_checkpoint_comes_back_bit_for_bit_without_the_first_weights(saved, model):
    loaded, card = checkpoint.load(saved)
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(loaded.state_dict()[name], tensor), name
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in loaded.named_parameters()} == trained
    assert (card.classes, card.clip, card.decode.short_side, card.features, card.run) == (
        CLASSES,
        CLIP,
        40,
        96,
        "r1",
    )
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert str(card.model.backbone.weights) == "/gone/weights.pth"


def test_colours_come_from_the_card(saved):
    edit(saved, mean=[0.1, 0.2, 0.3])
    loaded, _ = checkpoint.load(saved)
    torch.testing.assert_close(loaded.backbone.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))


def test_saving_again_replaces_the_old_one_and_leaves_nothing_beside_it(saved, model):
    (saved / "stale").touch()
    (saved.parent / "vtn.partial").mkdir()
    (saved.parent / "vtn.partial" / "half").touch()
    checkpoint.save(saved, model, checkpoint.read_card(saved))
    assert [path.name for path in saved.parent.iterdir()] == ["vtn"]
    assert sorted(path.name for path in saved.iterdir()) == ["model.json", "model.safetensors"]
    checkpoint.load(saved)


def test_a_save_that_fails_leaves_the_old_one_whole(saved, model, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(saved, model, checkpoint.read_card(saved))
    checkpoint.load(saved)


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_damaged_weights_are_refused(saved, damage):
    weights = saved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    if damage == "gone":
        weights.unlink()
    else:
        weights.write_bytes(data if damage == "changed" else data[:-100])
    with pytest.raises(
        ValueError, match=r"model\.safetensors is missing, cut short or not the file .*dvc repro"
    ):
        checkpoint.load(saved)


def test_weights_of_another_shape_are_refused(saved):
    edit(saved, classes=["only", "two"])
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit model\.json: .*size mismatch"):
        checkpoint.load(saved)


def test_what_is_no_checkpoint_is_refused(tmp_path, saved):
    with pytest.raises(ValueError, match=r"none not found: run `dvc repro train`"):
        checkpoint.load(tmp_path / "none")
    with pytest.raises(ValueError, match=r"is not a VTN checkpoint: it has no model\.json"):
        checkpoint.load(tmp_path)
    edit(saved, colour="blue")
    with pytest.raises(ValueError, match=r"not the card of a VTN checkpoint: colour: extra inputs"):
        checkpoint.load(saved)
    (saved / "model.json").write_text("{")
    with pytest.raises(ValueError, match=r"not the card of a VTN checkpoint: the file: invalid json"):
        checkpoint.load(saved)


def test_other_classes_are_named(saved):
    card = checkpoint.read_card(saved)
    checkpoint.check_classes(card, ["fall", "rise", "turn"])
    message = (
        r"only in the checkpoint turn; only in the data jump, walk; use the annotations .* `dvc repro train`"
    )
    with pytest.raises(ValueError, match=message):
        checkpoint.check_classes(card, ["fall", "jump", "rise", "walk"])


def test_the_same_classes_in_another_order_are_refused(saved):
    with pytest.raises(ValueError, match="in another order"):
        checkpoint.check_classes(checkpoint.read_card(saved), ["rise", "fall", "turn"])


def fitting(saved, **changes):
    """Check the checkpoint against params with another backbone config."""
    card = checkpoint.read_card(saved)
    backbone = card.model.backbone.model_copy(update=changes)
    params = Params(model=card.model.model_copy(update={"backbone": backbone}), clip=CLIP)
    checkpoint.check_fits(card, params, classes=CLASSES, data="d")


def test_another_backbone_is_refused(saved):
    fitting(saved)
    with pytest.raises(
        ValueError, match=r"model\.backbone\.name: test_vit now, .* trained with test_resnet; run"
    ):
        fitting(saved, name="test_vit")


def test_first_weights_are_told_apart_by_content(saved, tmp_path):
    with pytest.raises(ValueError, match=r"model\.backbone\.weights: .*other\.pth .* \(/gone/weights\.pth"):
        fitting(saved, weights=Path("other.pth"))  # what is gone can only be told by its path
    first, moved = tmp_path / "first.pth", tmp_path / "moved.pth"
    first.write_bytes(b"one")
    moved.write_bytes(b"one")
    config = CONFIG.model_copy(update={"backbone": CONFIG.backbone.model_copy(update={"weights": first})})
    model = build(CONFIG, num_classes=3, crop=32)
    card = checkpoint.describe(model, Params(model=config, clip=CLIP), classes=CLASSES)
    checkpoint.save(saved, model, card)
    fitting(saved, weights=moved)
    first.write_bytes(b"two")
    with pytest.raises(
        ValueError, match=r"first\.pth is not what models/vtn began with .*repro --force train"
    ):
        fitting(saved, weights=first)
    first.unlink()
    fitting(saved, weights=first)
