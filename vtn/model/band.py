"""Attention of frames to CLS and to their neighbours: dense for short clips, by blocks for long ones.

`query` is (B, N, T, d), `key` and `value` are (B, N, T+1, d) with CLS first, d = D/N; `mask` (B, T) is True where a
frame is real. Distance counts places in the clip. CLS may always be seen, so no row is ever empty.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

# Queries of a block at least: fewer leave the matrix units idle.
BLOCK = 32
# Up to so many blocks one product under a mask is the faster one (benchmarks/window_attention.py).
DENSE_BLOCKS = 3


def local_attention(
    query: Tensor, key: Tensor, value: Tensor, *, reach: int | None, mask: Tensor | None, dropout: float
) -> Tensor:
    """Context (B, N, T, d) of frames that see CLS and frames at most `reach` places away (None: all)."""
    if reach is None or query.shape[2] <= DENSE_BLOCKS * block_length(reach):
        return dense(query, key, value, reach=reach, mask=mask, dropout=dropout)
    return blocked(query, key, value, reach=reach, mask=mask, dropout=dropout)


def dense(
    query: Tensor, key: Tensor, value: Tensor, *, reach: int | None, mask: Tensor | None, dropout: float
) -> Tensor:
    """Every frame against every key, most of them forbidden: O(T * T)."""
    allowed = allowed_keys(query.shape[2], reach, mask, device=query.device)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=dropout)


def blocked(
    query: Tensor, key: Tensor, value: Tensor, *, reach: int, mask: Tensor | None, dropout: float
) -> Tensor:
    """Blocks of S frames, each against CLS and the S + 2 * reach frames around it: O(T * (S + 2 * reach)).

    The P blocks become a part of the batch, (B*P, N, S, d).
    """
    clips, heads, frames, _ = query.shape
    length = block_length(reach)
    blocks = -(-frames // length)
    padding = blocks * length - frames
    queries = F.pad(query, (0, 0, 0, padding)).view(clips, heads, blocks, length, -1)  # (B, N, P, S, d)
    queries = queries.transpose(1, 2).flatten(0, 1)  # (B*P, N, S, d)
    keys, values = (_around(tokens, length, reach, padding) for tokens in (key, value))
    allowed = _allowed_in_blocks(frames, length, reach, mask, device=query.device)  # (P or B*P, 1, S, 1+S+2R)
    if mask is None and clips > 1:
        allowed = allowed.repeat(clips, 1, 1, 1)
    context = F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed, dropout_p=dropout)
    context = context.reshape(clips, blocks, heads, length, -1).transpose(1, 2)  # (B, N, P, S, d)
    return context.reshape(clips, heads, blocks * length, -1)[:, :, :frames]


def block_length(reach: int) -> int:
    """S, how many frames share their keys: as many as a window, so that half of what they see is their own."""
    return max(BLOCK, 2 * reach)


def allowed_keys(
    frames: int, reach: int | None, mask: Tensor | None, *, device: torch.device
) -> Tensor | None:
    """Which keys each frame may see: bool (1 or B, 1, T, T+1), or None where nothing is forbidden."""
    allowed = None
    if reach is not None and reach < frames - 1:
        place = torch.arange(frames, device=device)
        near = (place[:, None] - place[None]).abs() <= reach  # (T, T)
        allowed = F.pad(near, (1, 0), value=True)[None, None]
    if mask is None:
        return allowed
    real = with_cls(mask)[:, None, None]  # (B, 1, 1, T+1)
    return real.expand(-1, -1, frames, -1) if allowed is None else real & allowed


def with_cls(mask: Tensor) -> Tensor:
    """(B, T) -> (B, T+1): CLS is always real."""
    return F.pad(mask, (1, 0), value=True)


def _around(tokens: Tensor, length: int, reach: int, padding: int) -> Tensor:
    """(B, N, T+1, d) -> (B*P, N, 1+S+2R, d): CLS, then the frames around each block."""
    cls, frames = tokens[:, :, :1], tokens[:, :, 1:]
    padded = F.pad(frames, (0, 0, reach, padding + reach))
    windows = padded.unfold(2, length + 2 * reach, length).transpose(-1, -2)  # (B, N, P, S+2R, d)
    cls = cls[:, :, None].expand(-1, -1, windows.shape[2], -1, -1)  # (B, N, P, 1, d)
    return torch.cat([cls, windows], dim=3).transpose(1, 2).flatten(0, 1)


def _allowed_in_blocks(
    frames: int, length: int, reach: int, mask: Tensor | None, *, device: torch.device
) -> Tensor:
    """Which keys each frame of a block may see: bool (P, 1, S, 1+S+2R), or with a mask (B*P, 1, S, 1+S+2R)."""
    row = torch.arange(length, device=device)[:, None]
    column = torch.arange(length + 2 * reach, device=device)[None]
    near = (column - row >= 0) & (column - row <= 2 * reach)  # (S, S+2R)
    blocks = -(-frames // length)
    real = torch.ones(1, frames, dtype=torch.bool, device=device) if mask is None else mask
    padded = F.pad(real, (reach, blocks * length - frames + reach), value=False)
    there = padded.unfold(1, length + 2 * reach, length).flatten(0, 1)  # (B*P, S+2R)
    return F.pad(near & there[:, None], (1, 0), value=True)[:, None]
