import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from vtn.model.vtn import build, build_on_features, parameter_count
from vtn.sections import BackboneConfig, HeadConfig, ModelConfig, TemporalConfig

POSITIONS = torch.arange(5).mul(6).expand(2, -1)
MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


def config(backbone="test_resnet", **temporal):
    return ModelConfig(
        backbone=BackboneConfig(name=backbone),
        temporal=TemporalConfig(**{"layers": 2, "feedforward": 32, "heads": 4} | temporal),
        head=HeadConfig(hidden=16),
    )


def vtn(**changes):
    torch.manual_seed(0)
    return build(config(**changes), num_classes=3, crop=32)


def frames():
    return torch.randn(2, 5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_forward_is_the_composition_of_its_three_steps():
    model, clips = vtn().eval(), frames()
    features = model.encode_frames(clips, MASK)
    clip = model.encode_time(features, POSITIONS, MASK)
    assert (features.shape, clip.shape) == ((2, 5, 96), (2, 96))
    assert torch.equal(model.classify(clip), model(clips, POSITIONS, MASK))


def test_each_frame_passes_the_backbone_on_its_own():
    model, clips = vtn().eval(), frames()
    torch.testing.assert_close(model.encode_frames(clips)[1, 2], model.backbone(clips[1, 2:3])[0])


@pytest.mark.parametrize("layers", [0, 2])
def test_a_padded_clip_gives_the_logits_of_the_shorter_clip(layers):
    model, clips = vtn(layers=layers).eval(), frames()
    padded = model(clips, POSITIONS, MASK)
    torch.testing.assert_close(padded[1:], model(clips[1:, :3], POSITIONS[1:, :3]))


def test_padding_never_enters_the_statistics_or_gradients_of_batch_norm():
    clips = frames()
    results = []
    for filler in (0.0, 1e6):
        model = vtn().train()
        filled = clips.masked_fill(~MASK[:, :, None, None, None], filler)
        features = model.encode_frames(filled, MASK)
        features.square().sum().backward()
        results.append(
            {
                "features": features,
                **{name: buffer for name, buffer in model.named_buffers()},
                **{f"grad {name}": p.grad for name, p in model.backbone.named_parameters()},
            }
        )
    assert results[0]["features"][1, 3:].abs().max() == 0
    for name, tensor in results[0].items():
        assert torch.equal(tensor, results[1][name]), name

    alone = vtn().train()
    expected = alone.backbone(torch.cat([clips[0], clips[1, :3]]))
    torch.testing.assert_close(results[0]["features"][MASK], expected)
    torch.testing.assert_close(
        results[0]["backbone.network.bn1.running_var"], alone.backbone.network.bn1.running_var
    )


def test_it_works_on_features_without_a_backbone():
    model = build_on_features(config(), num_classes=3, features=24)
    assert model.backbone is None
    assert model.classify(model.encode_time(torch.randn(2, 5, 24), POSITIONS)).shape == (2, 3)


@pytest.mark.parametrize(
    ("backbone", "attention"),
    [("test_resnet", "window"), ("test_resnet", "full"), ("test_resnet", "uniform"), ("test_vit", "window")],
)
def test_it_overfits_one_batch(backbone, attention):
    model = vtn(backbone=backbone, attention=attention, dropout=0.0, attention_dropout=0.0)
    model.head[3].p = 0.0
    clips, labels = frames(), torch.tensor([0, 2])
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(25):
        loss = F.cross_entropy(model(clips, POSITIONS, MASK), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


def test_parameters_are_counted_as_the_paper_s():
    paper = ModelConfig(
        temporal=TemporalConfig(layers=3, heads=12, feedforward=3072, position="learned", window=32),
        head=HeadConfig(hidden=768),
    )
    model = build_on_features(paper, num_classes=400, features=768)
    assert parameter_count(model.temporal) == 26_803_200 + 768
    assert parameter_count(model.head) == 899_728


def test_heads_that_do_not_share_the_width_are_refused_with_those_that_do():
    message = (
        r"model\.temporal\.heads: 5 does not divide the width 96 \(the backbone's features\); choose .*4, 6"
    )
    with pytest.raises(ValueError, match=message):
        vtn(heads=5)
    with pytest.raises(ValueError, match=r"the width 24 \(model\.temporal\.width\)"):
        vtn(heads=5, width=24)
    vtn(heads=5, layers=0)


def test_importing_the_model_takes_none_of_the_heavy_packages():
    code = (
        "import sys, vtn.model.vtn, vtn.model.checkpoint; "
        "print([name for name in ('mlflow', 'dvc', 'optuna', 'av', 'kornia', 'cv2', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@torch.no_grad()
def test_the_whole_model_compiles_without_a_graph_break():
    model = build(ModelConfig(), num_classes=3, crop=32).eval()
    frames, positions = torch.randn(2, 5, 3, 32, 32), torch.arange(5).expand(2, -1)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(frames, positions), model(frames, positions))
