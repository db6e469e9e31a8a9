import pytest
import torch

from vtn.evaluation.benchmark import multiply_adds
from vtn.model.temporal import TemporalEncoder, sinusoids
from vtn.sections import TemporalConfig

SMALL = {"heads": 3, "feedforward": 32, "window": 4, "max_positions": 32}


def encoder(features=24, **changes):
    torch.manual_seed(0)
    return TemporalEncoder(features, TemporalConfig(**SMALL | changes)).eval()


def clips(frames, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, frames, 24, generator=generator), torch.arange(frames).mul(3).expand(batch, -1)


def lengths_mask(frames, *lengths):
    return torch.arange(frames) < torch.tensor(lengths)[:, None]


def gradients(module, output):
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(output.square().sum(), wanted, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(wanted, found, strict=True)
    ]


@pytest.mark.parametrize("attention", ["window", "full", "uniform"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("mask", [None, lengths_mask(9, 9, 4)])
def test_forward_equals_the_plain_reference_in_values_and_gradients(attention, layers, mask):
    module = encoder(attention=attention, layers=layers)
    features, positions = clips(9)
    fast = module(features, positions, mask)
    plain = module.reference(features, positions, mask).hidden[-1][:, 0]
    torch.testing.assert_close(fast, plain, rtol=0, atol=5e-6)
    for ours, theirs in zip(gradients(module, fast), gradients(module, plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("attention", ["window", "full", "uniform"])
@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("lengths", [None, (1500, 1100), (1024, 1024)])
@torch.no_grad()
def test_a_long_clip_by_segments_equals_the_plain_reference(attention, norm, lengths):
    frames = 1500 if lengths is None else max(lengths)
    module = encoder(attention=attention, norm=norm, layers=2, window=10, position="learned")
    features, positions = clips(frames)
    mask = None if lengths is None else lengths_mask(frames, *lengths)
    encoded = module.encode(features, positions, mask)
    plain = module.reference(features, positions, mask)
    torch.testing.assert_close(encoded.clip, plain.hidden[-1][:, 0], rtol=0, atol=1e-5)
    for ours, theirs in zip(encoded.cls_weights, plain.cls_weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kind", "window"), [("full", 4), ("uniform", 4), ("window", 2048), ("window", 8)])
def test_inference_computes_hardly_more_than_training_however_far_frames_look(kind, window):
    with torch.device("meta"):
        module = encoder(attention=kind, window=window, layers=2)
        features, positions = torch.empty(1, 9000, 24), torch.zeros(1, 9000, dtype=torch.int64)
    whole = multiply_adds(lambda: module(features, positions))
    with torch.no_grad():
        assert multiply_adds(lambda: module(features, positions)) < 1.15 * whole


@pytest.mark.parametrize("attention", ["window", "full", "uniform"])
def test_pre_norm_equals_its_plain_reference_in_values_and_gradients(attention):
    module = encoder(attention=attention, norm="pre", layers=2)
    features, positions = clips(9)
    fast = module(features, positions)
    plain = module.reference(features, positions).hidden[-1][:, 0]
    torch.testing.assert_close(fast, plain, rtol=0, atol=5e-6)
    for ours, theirs in zip(gradients(module, fast), gradients(module, plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_it_compiles_without_a_graph_break():
    module = encoder(layers=2)
    features, positions = clips(120)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(features, positions), module(features, positions))
    with torch.no_grad():
        torch.testing.assert_close(compiled(features, positions), module(features, positions))


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "none"])
@pytest.mark.parametrize("layers", [0, 2])
def test_a_padded_clip_equals_the_shorter_clip_alone(position, layers):
    module = encoder(position=position, layers=layers)
    features, positions = clips(9)
    features[1, 4:] = torch.nan  # padding may hold anything
    padded = module(features, positions, lengths_mask(9, 9, 4))
    alone = module(features[1:, :4], positions[1:, :4])
    torch.testing.assert_close(padded[1:], alone)
    if layers:
        for ours, theirs in zip(gradients(module, padded[1:]), gradients(module, alone), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_frame_order_is_invisible_without_positions_and_band_and_visible_with_either():
    features, positions = clips(9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))

    @torch.no_grad()
    def change(**options):
        module = encoder(layers=2, **options)
        for parameter in module.parameters():
            parameter.mul_(5)  # the start is so near zero that nothing matters much
        return (module(features[:, order], positions) - module(features, positions)).abs().max().item()

    assert change(position="none", attention="full") < 2e-5
    assert change(position="sinusoidal", attention="full") > 1e-2
    assert change(position="learned", attention="full") > 1e-2
    assert change(position="none", attention="window") > 1e-2


def test_learned_positions_wrap_two_short_of_the_table_and_sinusoids_do_not():
    features, positions = clips(5)
    learned, waves = encoder(position="learned"), encoder(position="sinusoidal")
    period = SMALL["max_positions"] - 2
    assert torch.equal(learned(features, positions + period), learned(features, positions))
    assert not torch.allclose(waves(features, positions + period), waves(features, positions))


def test_without_layers_it_is_the_mean_of_the_real_frames_and_has_no_parameters():
    module = encoder(layers=0)
    features, positions = clips(6)
    pooled = module(features, positions, lengths_mask(6, 6, 2))
    torch.testing.assert_close(pooled[0], features[0].mean(dim=0))
    torch.testing.assert_close(pooled[1], features[1, :2].mean(dim=0))
    assert list(module.parameters()) == []


def test_windows_go_to_their_layers():
    module = encoder(layers=3, window=(2, 4, 6))
    assert [layer.attention.reach for layer in module.layers] == [1, 2, 3]


def test_another_width_brings_a_projection():
    features, positions = clips(4)
    assert encoder(width=12)(features, positions).shape == (2, 12)
    assert encoder(width=12, layers=0)(features, positions).shape == (2, 12)
    assert not list(encoder().projection.parameters())


def test_it_starts_as_the_release_does():
    module = encoder(features=192, layers=2, feedforward=256, position="learned", max_positions=288)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            assert parameter.abs().max() == 0, name
        elif "norm" in name:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        elif name == "cls_token":
            assert 0.8 < parameter.std() < 1.2
        else:
            assert 0.018 < parameter.std() < 0.022, name


def test_every_parameter_that_asks_for_a_gradient_gets_one():
    for attention in ("window", "full", "uniform"):
        module = encoder(attention=attention, position="learned", layers=2)
        module(*clips(5)).sum().backward()
        idle = [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
        assert idle == []


def test_the_last_layer_s_local_projections_rest():
    resting = [name for name, p in encoder(layers=2).named_parameters() if not p.requires_grad]
    assert {name.rsplit(".", 1)[0] for name in resting} == {
        f"layers.1.attention.{part}" for part in ("query", "key", "value")
    }


def test_every_norm_of_the_encoder_has_longformer_s_epsilon():
    norms = [module for module in encoder(layers=2).modules() if isinstance(module, torch.nn.LayerNorm)]
    assert [norm.eps for norm in norms] == [1e-12] * 5


@pytest.mark.parametrize("width", [8, 9])
def test_sinusoids_start_at_zero_and_tell_all_positions_apart(width):
    waves = sinusoids(torch.arange(3000), width)
    assert waves.shape == (3000, width)
    assert waves[0].tolist() == [0.0] * ((width + 1) // 2) + [1.0] * (width // 2)
    assert torch.cdist(waves, waves).fill_diagonal_(1).min() > 1e-3
