import pytest
import torch

from vtn.model.attention import Attention

KINDS = ("window", "full", "uniform")


def attention(kind="window", *, window=4, dropout=0.0, seed=0):
    torch.manual_seed(seed)
    return Attention(24, heads=3, kind=kind, window=window, dropout=dropout)


def hidden_states(frames, batch=2, seed=1):
    return torch.randn(batch, frames + 1, 24, generator=torch.Generator().manual_seed(seed))


def lengths_mask(frames, *lengths):
    return torch.arange(frames) < torch.tensor(lengths)[:, None]


def gradients(module, output, hidden):
    wanted = [hidden, *module.parameters()]
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2))
    return torch.autograd.grad((output * weights).sum(), wanted, allow_unused=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask", [None, lengths_mask(11, 11, 5)])
def test_forward_equals_the_plain_reference_in_values_and_gradients(kind, mask):
    module, hidden = attention(kind), hidden_states(11).requires_grad_()
    fast, plain = module(hidden, mask).context, module.reference(hidden, mask).context
    real = slice(None) if mask is None else torch.nn.functional.pad(mask, (1, 0), value=True)
    torch.testing.assert_close(fast[real], plain[real], rtol=0, atol=2e-6)
    for ours, theirs in zip(
        gradients(module, fast[real], hidden), gradients(module, plain[real], hidden), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_cls_alone_is_the_first_row_of_forward(kind):
    module, hidden, mask = attention(kind), hidden_states(9), lengths_mask(9, 9, 4)
    torch.testing.assert_close(
        module.cls(hidden, mask).context, module(hidden, mask).context[:, :1], rtol=0, atol=0
    )


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_window_wider_than_the_clip_equals_full_attention(frames):
    window, full = attention("window", window=2 * frames), attention("full")
    hidden = hidden_states(frames)
    torch.testing.assert_close(window(hidden).context, full(hidden).context)


def test_a_frame_out_of_reach_changes_cls_but_not_the_frame():
    module, hidden = attention(window=4), hidden_states(9)
    changed = hidden.clone()
    changed[:, 9] += 1.0  # the last frame, 8 places from the first
    difference = (module(changed).context - module(hidden).context).abs().amax(dim=(0, 2))
    assert difference[1:7].max() == 0
    assert difference[[0, 7, 8, 9]].min() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_masked_frames_change_nothing_and_a_fully_masked_clip_is_finite(kind):
    module, hidden, mask = attention(kind), hidden_states(8), lengths_mask(8, 5, 0)
    padded = module(hidden, mask).context
    torch.testing.assert_close(padded[0, :6], module(hidden[:1, :6]).context[0])
    assert padded.isfinite().all()
    torch.testing.assert_close(padded[1, :1], module(hidden[1:, :1]).context[0])


def test_uniform_weighs_every_real_token_alike_and_has_value_projections_only():
    module, hidden, mask = attention("uniform"), hidden_states(6), lengths_mask(6, 6, 3)
    assert {name.split(".")[0] for name, _ in module.named_parameters()} == {"value", "value_global"}
    output = module(hidden, mask).context
    for clip, length in enumerate((6, 3)):
        mean = hidden[clip, : length + 1].mean(dim=0)
        torch.testing.assert_close(output[clip, 0], module.value_global(mean))
        torch.testing.assert_close(output[clip, 1:], module.value(mean).expand(6, -1))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_weights_of_the_fast_path_are_the_reference_s(kind):
    module, hidden, mask = attention(kind), hidden_states(7), lengths_mask(7, 7, 2)
    torch.testing.assert_close(
        module(hidden, mask).cls_weights, module.reference(hidden, mask).cls_weights, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_s_weights_are_shares(kind):
    attended = attention(kind).reference(hidden_states(7), lengths_mask(7, 7, 2))
    torch.testing.assert_close(attended.cls_weights.sum(-1), torch.ones(2, 3))
    torch.testing.assert_close(attended.frame_weights.sum(-1), torch.ones(2, 3, 7))
    assert attended.cls_weights[1, :, 3:].max() == 0


def test_dropout_falls_on_both_paths_in_training_only():
    module, hidden = attention(dropout=0.5), hidden_states(7)
    for path in (lambda: module.frames(hidden), lambda: module.cls(hidden).context):
        assert not torch.equal(path(), path())
    module.eval()
    assert torch.equal(module(hidden).context, module(hidden).context)


def test_dropout_of_the_cls_path_drops_the_value_s_bias_with_its_token():
    module = attention(dropout=0.999)
    with torch.no_grad():
        module.value_global.weight.zero_()
    torch.manual_seed(0)
    assert module.cls(hidden_states(3)).context.abs().max() == 0


def test_softmax_is_taken_in_float32_when_the_model_runs_in_bf16():
    module, hidden = attention("full").bfloat16(), hidden_states(7).bfloat16()
    attended = module.reference(hidden)
    assert attended.cls_weights.dtype == torch.float32
    assert attended.context.dtype == torch.bfloat16
    torch.testing.assert_close(module(hidden).context, attended.context, rtol=0, atol=0.02)
