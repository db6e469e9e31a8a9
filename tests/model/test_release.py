import pytest
import torch
from torch import nn

from vtn.model.checkpoint import from_release
from vtn.model.release import release_name, to_release, vision_transformer
from vtn.model.vtn import build, build_on_features
from vtn.sections import BackboneConfig, HeadConfig, ModelConfig, TemporalConfig

WINDOWS = (4, 6)


def vtn_model(**temporal):
    torch.manual_seed(0)
    options = {"layers": 2, "heads": 4, "feedforward": 40, "window": WINDOWS, "position": "learned"}
    config = ModelConfig(
        temporal=TemporalConfig(**options | {"max_positions": 32} | temporal), head=HeadConfig(hidden=16)
    )
    return build_on_features(config, num_classes=5, features=24).eval()


@pytest.fixture
def state():
    return to_release(vtn_model())


def logits(model):
    features = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(1))
    return model(features, torch.arange(9).expand(2, -1) * 20)


def test_there_and_back_gives_the_same_numbers(state):
    back = from_release(state, num_heads=4, attention_window=WINDOWS)
    assert torch.equal(logits(back), logits(vtn_model()))
    assert not back.training
    assert back.state_dict().keys() == vtn_model().state_dict().keys()


def test_names_are_the_release_s(state):
    assert "temporal_encoder.encoder.layer.1.attention.self.query_global.bias" in state
    assert "temporal_encoder.embeddings.position_embeddings.weight" in state
    assert release_name("backbone.network.blocks.0.norm1.weight") == "backbone.blocks.0.norm1.weight"


def test_the_index_of_old_checkpoints_is_tolerated_and_the_backbone_left_aside(state):
    state["temporal_encoder.embeddings.position_ids"] = torch.arange(32)[None]
    state["backbone.norm.weight"] = torch.zeros(3)
    assert from_release(state, num_heads=4, attention_window=WINDOWS).backbone is None


def test_a_backbone_may_be_a_module_with_the_release_s_colours(state):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.project = nn.Linear(3 * 4 * 4, 24)

        def forward(self, frames):
            return self.project(frames.flatten(1))

    module = Flat()
    state |= {f"backbone.{name}": tensor + 1 for name, tensor in module.state_dict().items()}
    model = from_release(state, num_heads=4, attention_window=WINDOWS, backbone=Flat())
    assert torch.equal(model.backbone.network.project.weight, state["backbone.project.weight"])
    assert model.backbone.mean.flatten().tolist() == pytest.approx([0.45] * 3)
    assert model.encode_frames(torch.zeros(1, 2, 3, 4, 4)).shape == (1, 2, 24)


def test_a_backbone_may_be_a_timm_name():
    config = ModelConfig(
        backbone=BackboneConfig(name="test_vit"),
        temporal=TemporalConfig(layers=1, heads=4, window=4, position="learned", max_positions=32),
    )
    model = build(config, num_classes=3, crop=32).eval()
    back = from_release(to_release(model), num_heads=4, attention_window=4, backbone="test_vit")
    frames = torch.randn(1, 3, 3, 32, 32)
    assert torch.equal(back(frames, torch.arange(3)[None]), model(frames, torch.arange(3)[None]))


def test_a_plain_vit_is_told_by_its_tensors():
    config = BackboneConfig(
        name="vit_base_patch16_224",
        options={"embed_dim": 48, "patch_size": 8, "depth": 2, "num_heads": 4, "mlp_ratio": 2.0},
    )
    network = build(
        ModelConfig(backbone=config, temporal=TemporalConfig(layers=0)), num_classes=2, crop=32
    ).backbone.network
    state = {f"backbone.{name}": tensor for name, tensor in network.state_dict().items()}
    assert vision_transformer(state) == (config, 32)
    assert vision_transformer({"backbone.conv1.weight": torch.zeros(1)}) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("mlp_head.0.bias"), "missing mlp_head.0.bias"),
        (lambda state: state.update(extra=torch.zeros(1)), "unexpected extra"),
        (
            lambda state: state.update({"mlp_head.4.weight": torch.zeros(5, 3)}),
            r"of another shape mlp_head.4.weight \(5, 3\) instead of \(5, 16\)",
        ),
        (
            lambda state: state.update(cls_token=state["cls_token"].long()),
            r"of another kind cls_token torch\.int64",
        ),
        (lambda state: state.update(cls_token=torch.tensor(0.0)), r"cls_token has the shape \(\)"),
        (lambda state: state.pop("cls_token"), "not a VTN of the release: it has no cls_token"),
    ],
)
def test_what_does_not_fit_is_named(state, change, message):
    change(state)
    with pytest.raises(ValueError, match=message):
        from_release(state, num_heads=4, attention_window=WINDOWS)


@pytest.mark.parametrize(
    ("heads", "window", "message"),
    [
        (5, 4, r"num_heads \(--heads\): 5 does not divide"),
        (4, (4,), "1 windows for the 2 layers"),
        (4, 3, "must be even"),
    ],
)
def test_impossible_heads_and_windows_are_refused(state, heads, window, message):
    with pytest.raises(ValueError, match=message):
        from_release(state, num_heads=heads, attention_window=window)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"position": "sinusoidal"}, "positions are sinusoidal"),
        ({"norm": "pre"}, "pre-LN"),
        ({"attention": "uniform"}, "attention is uniform"),
        ({"attention": "full"}, "attention is full"),
        ({"width": 12}, "its width is not the backbone's"),
        ({"layers": 0, "window": 4}, "it has no layers"),
    ],
)
def test_what_the_release_cannot_express_is_not_exported(change, reason):
    with pytest.raises(ValueError, match=reason):
        to_release(vtn_model(**change))
