import time

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from vtn.model import backbone as backbones
from vtn.model.backbone import build
from vtn.sections import BackboneConfig


def resnet(**changes):
    torch.manual_seed(0)
    return build(BackboneConfig(**changes), crop=32)


@pytest.fixture(scope="module")
def classifier():
    """A timm model with its classifier, as weights files hold it."""
    torch.manual_seed(1)
    return timm.create_model("test_resnet", num_classes=7)


# The last one ends in a wider layer than its num_features says.
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "mobilenetv4_conv_small_035"])
@torch.no_grad()
def test_any_family_gives_one_vector_a_frame_at_the_configured_crop(name):
    backbone = build(BackboneConfig(name=name), crop=48).eval()
    assert backbone(torch.randn(2, 3, 48, 48)).shape == (2, backbone.num_features)


def test_colours_are_those_of_the_weights_and_stay_out_of_the_state():
    backbone = build(BackboneConfig(name="test_efficientnet"), crop=32)
    imagenet = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    torch.testing.assert_close(backbone.mean, imagenet)
    assert backbone.normalise(imagenet.expand(2, 5, 3, 4, 4)).abs().max() < 1e-6
    assert backbone.normalise(torch.ones(2, 5, 3, 4, 4)).shape == (2, 5, 3, 4, 4)
    assert all(name.startswith("network.") for name in backbone.state_dict())


def test_a_frozen_backbone_is_unchanged_by_a_training_step():
    backbone = resnet(frozen=True).train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    scale = torch.nn.Parameter(torch.ones(backbone.num_features))
    optimiser = torch.optim.SGD([*backbone.parameters(), scale], lr=1.0)
    (backbone(torch.randn(4, 3, 32, 32)) * scale).sum().backward()
    optimiser.step()
    assert not torch.equal(scale, torch.ones_like(scale))
    assert not any(module.training for module in backbone.modules())
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_fine_tuned_backbone_trains():
    backbone = resnet().train()
    backbone(torch.randn(4, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    assert backbone.state_dict()["network.bn1.running_mean"].abs().max() > 0


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_a_local_file_fills_every_key_and_its_classifier_is_left_out(tmp_path, classifier, suffix):
    path = tmp_path / f"weights{suffix}"
    save_file(classifier.state_dict(), path) if suffix == ".safetensors" else torch.save(
        {"state_dict": classifier.state_dict()}, path
    )
    state = resnet(weights=path).network.state_dict()
    assert all(torch.equal(tensor, classifier.state_dict()[name]) for name, tensor in state.items())


def test_a_transformer_s_position_table_is_resized_to_the_crop(tmp_path):
    path = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit", img_size=64).state_dict(), path)
    backbone = build(BackboneConfig(name="test_vit", weights=path), crop=32)
    assert backbone(torch.randn(1, 3, 32, 32)).shape == (1, 64)


def test_a_file_that_does_not_fit_is_refused_with_its_keys(tmp_path, classifier):
    state = classifier.state_dict()
    state["stray.weight"] = state.pop("bn1.weight")
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"missing bn1\.weight, unexpected stray\.weight; name the model"):
        resnet(weights=path)
    torch.save({**classifier.state_dict(), "bn1.weight": torch.ones(5)}, path)
    with pytest.raises(ValueError, match=r"model\.backbone\.weights: .* does not fit: .*size mismatch"):
        resnet(weights=path)


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth"])
def test_a_file_that_holds_no_tensors_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"model\.backbone\.weights: .* is not a readable weights file"):
        resnet(weights=path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"model\.backbone\.weights: .*none\.pth not found; give the path"):
        resnet(weights=tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("resnet5O", "resnet50"),
        ("vit_base_patch16_224.orig_in21k_ft", "vit_base_patch16_224.orig_in21k_ft_in1k"),
    ],
)
def test_a_mistyped_name_gets_the_nearest_names(typed, meant):
    with pytest.raises(ValueError, match=rf"model\.backbone\.name: '{typed}' is no timm model; .*{meant}"):
        resnet(name=typed)


def test_pretrained_without_a_network_fails_within_seconds_and_names_the_remedies(monkeypatch):
    def refuse(*_, **__):
        raise OSError("network is unreachable")

    monkeypatch.setattr(backbones, "try_to_load_from_cache", lambda repository, file: None)
    monkeypatch.setattr(backbones, "get_session", refuse)
    start = time.monotonic()
    with pytest.raises(
        ValueError, match=r"does not answer; name a local file in model\.backbone\.weights, .*false"
    ):
        resnet(pretrained=True)
    assert time.monotonic() - start < 5


def test_a_host_that_is_silent_counts_as_no_network(monkeypatch):
    class Silent:
        def head(self, address, timeout):
            time.sleep(60)

    monkeypatch.setattr(backbones, "get_session", Silent)
    monkeypatch.setattr(backbones, "REACH_SECONDS", 0.1)
    assert not backbones._answers(constants.ENDPOINT)


def test_cached_weights_need_no_network(monkeypatch, tmp_path, classifier):
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(backbones, "try_to_load_from_cache", lambda repository, file: str(tmp_path / file))
    monkeypatch.setattr(backbones, "_answers", lambda address: pytest.fail("asked the network"))
    assert resnet(pretrained=True).num_features == 96


def test_pretrained_weights_that_nobody_published_are_refused():
    with pytest.raises(ValueError, match=r"timm publishes no weights of vit_giant_patch14_224; set"):
        resnet(name="vit_giant_patch14_224", pretrained=True)
