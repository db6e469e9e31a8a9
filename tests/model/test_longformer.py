"""The encoder against transformers' Longformer on weights, lengths, windows, batches and masks at random."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from vtn.model.release import from_release

transformers = pytest.importorskip("transformers", reason="transformers is not installed: run `make env`")

WIDTH, HEADS, FEEDFORWARD, POSITIONS = 24, 3, 40, 50
PERIOD = POSITIONS - 2
# Lengths that every window divides; a window of 2 is one that transformers cannot compute.
WINDOWS, MULTIPLE = (4, 6, 8, 12, 24), 48


def longformer(windows, seed):
    config = transformers.LongformerConfig(
        vocab_size=1,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_hidden_layers=len(windows),
        intermediate_size=FEEDFORWARD,
        max_position_embeddings=POSITIONS,
        attention_window=windows,
        pad_token_id=0,
        bos_token_id=None,
        sep_token_id=None,
        eos_token_id=None,
        layer_norm_eps=1e-12,
    )
    torch.manual_seed(seed)
    model = transformers.LongformerModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # the usual start is too near zero for anything to matter
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def same_weights(theirs, windows):
    state = {f"temporal_encoder.{name}": tensor for name, tensor in theirs.state_dict().items()}
    del state["temporal_encoder.embeddings.word_embeddings.weight"]
    shapes = {"0.weight": (WIDTH,), "0.bias": (WIDTH,), "1.weight": (8, WIDTH), "1.bias": (8,)}
    shapes |= {"4.weight": (5, 8), "4.bias": (5,)}
    state |= {f"mlp_head.{name}": torch.randn(shape) for name, shape in shapes.items()}
    return from_release(
        {**state, "cls_token": torch.randn(1, 1, WIDTH)}, num_heads=HEADS, attention_window=windows
    )


def states_of(model, cls_token, features, positions, mask):
    """Hidden states (B, T+1, D), embeddings first, of the Longformer with a global CLS."""
    clips, length = len(features), features.shape[1] + 1
    tokens = torch.cat([cls_token.expand(clips, -1, -1), features], dim=1)
    rows = {
        "attention_mask": F.pad(mask.long(), (1, 0), value=2),
        "token_type_ids": F.pad(torch.zeros_like(positions), (1, 0), value=1),
        "position_ids": F.pad(positions % PERIOD, (1, 0), value=PERIOD),
    }
    padding = -length % MULTIPLE
    output = model(
        inputs_embeds=F.pad(tokens, (0, 0, 0, padding)),
        **{name: F.pad(row, (0, padding)) for name, row in rows.items()},
        output_hidden_states=True,
    )
    return [states[:, :length] for states in output.hidden_states]


@settings(max_examples=30)
@given(data=st.data())
def test_any_weights_lengths_windows_and_masks_give_transformers_values_and_gradients(data):
    windows = data.draw(st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=3))
    lengths = data.draw(st.lists(st.integers(1, 150), min_size=1, max_size=3))
    seed = data.draw(st.integers(0, 2**16))
    theirs = longformer(windows, seed)
    ours = same_weights(theirs, windows)
    frames, clips = max(lengths), len(lengths)
    features = torch.randn(clips, frames, WIDTH, requires_grad=True)
    positions = torch.randint(0, 3 * PERIOD, (clips, 1)) + torch.arange(frames)
    mask = torch.arange(frames) < torch.tensor(lengths)[:, None]
    given_mask = None if bool(mask.all()) else mask

    states = states_of(theirs, ours.temporal.cls_token, features, positions, mask)
    plain = states[-1]
    clip = ours.encode_time(features, positions, given_mask)
    torch.testing.assert_close(clip, plain[:, 0], rtol=0, atol=2e-5)

    weights = torch.randn(clip.shape)
    for mine, their in zip(
        torch.autograd.grad((clip * weights).sum(), [features, ours.temporal.cls_token]),
        torch.autograd.grad((plain[:, 0] * weights).sum(), [features, ours.temporal.cls_token]),
        strict=True,
    ):
        torch.testing.assert_close(mine, their, rtol=1e-4, atol=2e-5)

    with torch.no_grad():
        hidden = ours.temporal.embed(features, positions, given_mask)
        real = F.pad(mask, (1, 0), value=True)
        for layer, theirs_next in zip(ours.temporal.stack, states[1:], strict=True):
            hidden = layer(hidden, given_mask).context
            torch.testing.assert_close(hidden[real], theirs_next[real], rtol=0, atol=2e-5)
