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

    The P blocks become a part of the batch, (B*P, N, S, d). Keys and values are gathered a token at a time, all
    heads of it, so that each is copied once.
    """
    clips, heads, frames, width = query.shape
    length = block_length(reach)
    places, allowed = _blocks(frames, length, reach, device=query.device)  # (P, W), (P, 1, S, W), W = 1+S+2R
    padding = len(places) * length - frames
    queries = F.pad(query.transpose(1, 2), (0, 0, 0, 0, 0, padding))  # (B, P*S, N, d)
    keys, values = (tokens.transpose(1, 2).index_select(1, places.flatten()) for tokens in (key, value))
    if mask is not None:
        allowed = (allowed & with_cls(mask)[:, places][:, :, None, None]).flatten(0, 1)  # (B*P, 1, S, W)
    elif clips > 1:
        allowed = allowed.repeat(clips, 1, 1, 1)
    queries, keys, values = (
        tokens.reshape(clips * len(places), -1, heads, width).transpose(1, 2)
        for tokens in (queries, keys, values)
    )
    context = F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed, dropout_p=dropout)
    context = context.transpose(1, 2).reshape(clips, -1, heads, width)  # (B, P*S, N, d)
    return context[:, :frames].transpose(1, 2)


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


def _blocks(frames: int, length: int, reach: int, *, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each block the places of its W = 1+S+2R keys among CLS and the frames, and which of them each of its
    frames may see: int64 (P, W) and bool (P, 1, S, W). Places beyond the clip name CLS and are forbidden.
    """
    starts = torch.arange(0, frames, length, device=device)[:, None]  # (P, 1)
    row = torch.arange(length, device=device)[:, None]  # (S, 1)
    column = torch.arange(length + 2 * reach, device=device)  # (S+2R,)
    place = starts + column - reach  # (P, S+2R)
    there = (place >= 0) & (place < frames)
    near = (column >= row) & (column <= row + 2 * reach)  # (S, S+2R)
    places = F.pad((place + 1) * there, (1, 0))
    return places, F.pad(near & there[:, None], (1, 0), value=True)[:, None]
