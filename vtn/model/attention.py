"""Attention of the temporal encoder: a band for the frames, the whole clip for CLS.

`Attention.cls` and `Attention.frames` are what the encoder runs; `Attention.reference` says the same in the
plainest way, with every weight visible, and the tests hold them equal.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vtn.model.band import allowed_keys, local_attention, with_cls

Kind = Literal["window", "full", "uniform"]


class Attended(NamedTuple):
    """What tokens gather, and how CLS weighed them: before dropout, in float32."""

    context: Tensor  # (B, T+1, D), of CLS alone (B, 1, D)
    cls_weights: Tensor  # (B, N, T+1)


class Reference(NamedTuple):
    """What the plain reference computes; the weights are those before dropout."""

    context: Tensor  # (B, T+1, D)
    cls_weights: Tensor  # (B, N, T+1)
    frame_weights: Tensor  # (B, N, T, T+1)


class Attention(nn.Module):
    """Multi-head attention over CLS and T frames (Longformer with a global CLS, VTN paper section 3.2).

    A frame attends to CLS and to frames at most `window / 2` places away, through `query`, `key` and
    `value`; CLS attends to everything through the `_global` projections. `full` drops the band; `uniform`,
    the paper's control, weighs every token alike and so has value projections only.
    """

    def __init__(self, width: int, *, heads: int, kind: Kind, window: int, dropout: float) -> None:
        super().__init__()
        assert width % heads == 0, (width, heads)
        self.heads = heads
        self.kind = kind
        self.reach = window // 2 if kind == "window" else None
        self.dropout = dropout
        if kind != "uniform":
            self.query = nn.Linear(width, width)
            self.key = nn.Linear(width, width)
            self.query_global = nn.Linear(width, width)
            self.key_global = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.value_global = nn.Linear(width, width)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Attended:
        """Attend for every token: hidden (B, T+1, D), CLS first; mask (B, T), True where a frame is real."""
        cls = self.cls(hidden, mask)
        return Attended(torch.cat([cls.context, self.frames(hidden, mask)], dim=1), cls.cls_weights)

    def frames(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend for the frames alone, (B, T, D)."""
        if self.kind == "uniform" and not (self.training and self.dropout):
            return self._alike(hidden, mask).expand(-1, hidden.shape[1] - 1, -1)
        query, key = self._local(hidden)
        frames = local_attention(
            query,
            key,
            self._split(self.value(hidden)),
            reach=self.reach,
            mask=mask,
            dropout=self.dropout if self.training else 0.0,
        )  # (B, N, T, D/N)
        return self._join(frames)

    def cls(self, hidden: Tensor, mask: Tensor | None = None) -> Attended:
        """Attend for CLS alone.

        CLS is one query, so its query is carried through the key projection and its weighted mean of the
        tokens through the value projection: neither projection touches every frame.
        """
        allowed = None if mask is None else with_cls(mask)[:, None]  # (B, 1, T+1)
        weights = _softmax(self._cls_scores(hidden), allowed)
        dropped = self._drop(weights.to(hidden.dtype))
        pooled = dropped @ hidden  # (B, N, D)
        weight, bias = self._by_head(self.value_global)
        context = _headwise(pooled, weight.transpose(1, 2))  # (B, N, D/N)
        # With dropout the weights no longer sum to one, so the bias counts as often as they do.
        context = context + bias * dropped.sum(-1, keepdim=True)
        return Attended(context.flatten(1)[:, None], weights)

    def reference(self, hidden: Tensor, mask: Tensor | None = None) -> Reference:
        """The same as `forward`, written as the definition reads: all projections, all weights."""
        query, key = self._local(hidden)
        allowed = allowed_keys(hidden.shape[1] - 1, self.reach, mask, device=hidden.device)
        frame_weights = _softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, allowed)
        frames = self._drop(frame_weights) @ self._split(self.value(hidden)).float()

        if self.kind == "uniform":
            scores = hidden.new_zeros(len(hidden), self.heads, 1, hidden.shape[1])
        else:
            query = self._split(self.query_global(hidden[:, :1]))  # (B, N, 1, D/N)
            key = self._split(self.key_global(hidden))  # (B, N, T+1, D/N)
            scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        cls_weights = _softmax(scores, None if mask is None else with_cls(mask)[:, None, None])
        cls = self._drop(cls_weights) @ self._split(self.value_global(hidden)).float()
        context = self._join(torch.cat([cls, frames], dim=2)).to(hidden.dtype)
        return Reference(context, cls_weights[:, :, 0], frame_weights)

    def _local(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Queries of the frames (B, N, T, D/N) and keys of all tokens (B, N, T+1, D/N)."""
        if self.kind == "uniform":
            blank = self._split(torch.zeros_like(hidden))
            return blank[:, :, 1:], blank
        return self._split(self.query(hidden[:, 1:])), self._split(self.key(hidden))

    def _alike(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """What each frame gathers where all tokens weigh the same and none is dropped, (B, 1, D)."""
        allowed = None if mask is None else with_cls(mask)[:, None]  # (B, 1, T+1)
        weights = _softmax(hidden.new_zeros(len(hidden), 1, hidden.shape[1]), allowed)
        gathered: Tensor = self.value(weights.to(hidden.dtype) @ hidden)
        return gathered

    def _cls_scores(self, hidden: Tensor) -> Tensor:
        """Scaled scores of CLS against every token, (B, N, T+1)."""
        if self.kind == "uniform":
            return hidden.new_zeros(len(hidden), self.heads, hidden.shape[1])
        query = self._split(self.query_global(hidden[:, :1]))[:, :, 0]  # (B, N, D/N)
        query = query * query.shape[-1] ** -0.5
        weight, bias = self._by_head(self.key_global)
        carried = _headwise(query, weight)  # (B, N, D)
        scores: Tensor = carried @ hidden.transpose(1, 2) + (query * bias).sum(-1, keepdim=True)
        return scores

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, S, D) -> (B, N, S, D/N)."""
        batch, length, width = tokens.shape
        return tokens.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

    def _join(self, tokens: Tensor) -> Tensor:
        """(B, N, S, D/N) -> (B, S, D)."""
        return tokens.transpose(1, 2).flatten(2)

    def _by_head(self, projection: nn.Linear) -> tuple[Tensor, Tensor]:
        """Weight (N, D/N, D) and bias (N, D/N)."""
        width = projection.in_features
        return projection.weight.view(self.heads, -1, width), projection.bias.view(self.heads, -1)

    def _drop(self, weights: Tensor) -> Tensor:
        return F.dropout(weights, self.dropout, self.training)


def _headwise(rows: Tensor, weight: Tensor) -> Tensor:
    """Each head's row times its matrix: (B, N, i), (N, i, j) -> (B, N, j)."""
    return (rows.transpose(0, 1) @ weight).transpose(0, 1)


def _softmax(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """Softmax over the allowed keys, in float32 whatever the scores are."""
    scores = scores.float()
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    return scores.softmax(-1)
