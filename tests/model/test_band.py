import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vtn.model.band import BLOCK, DENSE_BLOCKS, allowed_keys, block_length, blocked, dense, local_attention

CPU = torch.device("cpu")


def tokens(frames, *, clips=2, seed=0, dtype=torch.float32):
    """Query (B, N, T, d), key and value (B, N, T+1, d)."""
    generator = torch.Generator().manual_seed(seed)
    lengths = (frames, frames + 1, frames + 1)
    return [
        torch.randn(clips, 3, length, 8, generator=generator).to(dtype).requires_grad_() for length in lengths
    ]


def lengths_mask(frames, *lengths):
    return torch.arange(frames) < torch.tensor(lengths)[:, None]


def test_a_frame_sees_cls_and_half_the_window_on_each_side():
    allowed = allowed_keys(5, 1, None, device=CPU)
    assert allowed[0, 0].int().tolist() == [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 0, 1, 1, 1, 0],
        [1, 0, 0, 1, 1, 1],
        [1, 0, 0, 0, 1, 1],
    ]


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(0, 40), st.booleans(), st.integers(0, 2**16))
def test_blocks_equal_the_dense_product_in_values_and_gradients(frames, reach, padded, seed):
    parts = tokens(frames, seed=seed)
    mask = lengths_mask(frames, frames, max(frames // 3, 1)) if padded else None
    real = torch.ones(2, frames, dtype=torch.bool) if mask is None else mask
    options = {"reach": reach, "mask": mask, "dropout": 0.0}
    ours, plain = (path(*parts, **options).transpose(1, 2)[real] for path in (blocked, dense))
    torch.testing.assert_close(ours, plain, rtol=0, atol=5e-6)
    weights = torch.randn(plain.shape, generator=torch.Generator().manual_seed(seed))
    for mine, theirs in zip(
        torch.autograd.grad((ours * weights).sum(), parts),
        torch.autograd.grad((plain * weights).sum(), parts),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-5)


@torch.no_grad()
def test_blocks_equal_the_dense_product_in_bf16_to_its_precision():
    parts = tokens(200, dtype=torch.bfloat16)
    options = {"reach": 9, "mask": None, "dropout": 0.0}
    torch.testing.assert_close(blocked(*parts, **options), dense(*parts, **options), rtol=0, atol=0.03)


@pytest.mark.parametrize(
    ("frames", "path"), [(DENSE_BLOCKS * BLOCK, dense), (DENSE_BLOCKS * BLOCK + 1, blocked)]
)
@torch.no_grad()
def test_short_clips_take_the_dense_path_and_long_ones_blocks(frames, path):
    parts = tokens(frames)
    options = {"reach": 4, "mask": None, "dropout": 0.0}
    assert torch.equal(local_attention(*parts, **options), path(*parts, **options))


@torch.no_grad()
def test_padding_holds_no_nan_where_a_clip_is_all_padding():
    parts = tokens(120)
    context = blocked(*parts, reach=2, mask=lengths_mask(120, 120, 0), dropout=0.0)
    assert context.isfinite().all()


def test_a_block_is_as_long_as_the_window_but_never_tiny():
    assert (block_length(1), block_length(16), block_length(40)) == (32, 32, 80)
