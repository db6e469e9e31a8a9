"""The temporal encoder: CLS and frame features through post-LN layers, read at CLS."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vtn.model.attention import Attention
from vtn.sections import TemporalConfig

# Inside the encoder the release keeps Longformer's epsilon; its head has PyTorch's own 1e-5.
EPSILON = 1e-12
INITIAL_SPREAD = 0.02
WAVELENGTH = 10_000.0
LOCAL_PROJECTIONS = ("query.", "key.", "value.")


class Trace(NamedTuple):
    """Everything the plain reference passes through, for tests and explanations."""

    hidden: list[Tensor]  # layers + 1 of (B, T+1, D); the first holds the embeddings
    cls_weights: list[Tensor]  # per layer (B, N, T+1)
    frame_weights: list[Tensor]  # per layer (B, N, T, T+1)


class TemporalEncoder(nn.Module):
    """Features of T frames to one vector a clip (VTN paper, section 3.2).

    Without layers it is the mean of the real frames: the baseline to beat.
    """

    def __init__(self, features: int, config: TemporalConfig) -> None:
        super().__init__()
        self.width = config.width or features
        self.projection = nn.Identity() if self.width == features else nn.Linear(features, self.width)
        if config.layers:
            self.cls_token = nn.Parameter(torch.randn(1, 1, self.width))
            self.embeddings = Embeddings(self.width, config).apply(_initialise)
        self.layers = nn.ModuleList(Layer(self.width, config, window=window) for window in config.windows)
        self.layers.apply(_initialise)
        if config.layers:
            self._rest_last_layer()

    def forward(self, features: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode clips: (B, T, D), position ids (B, T) int64, mask (B, T) True where real -> (B, E)."""
        if not self.layers:
            return _mean(self._project(features, mask), mask)
        hidden = self._embed(features, positions, mask)
        *body, last = self._stack
        for layer in body:
            hidden = layer(hidden, mask)
        # Only CLS is read, so the last layer computes nothing for the frames.
        return last.cls(hidden, mask)[:, 0]

    def reference(self, features: Tensor, positions: Tensor, mask: Tensor | None = None) -> Trace:
        """All rows of all layers through the plain attention; `hidden[-1][:, 0]` is what forward returns."""
        trace = Trace([self._embed(features, positions, mask)], [], [])
        for layer in self._stack:
            attended = layer.attention.reference(trace.hidden[-1], mask)
            trace.hidden.append(layer.finish(trace.hidden[-1], attended.context))
            trace.cls_weights.append(attended.cls_weights)
            trace.frame_weights.append(attended.frame_weights)
        return trace

    @property
    def _stack(self) -> Sequence["Layer"]:
        return cast(Sequence[Layer], self.layers)

    def _project(self, features: Tensor, mask: Tensor | None) -> Tensor:
        # Padding may hold anything, and zero times NaN is NaN even where attention gives it no weight.
        if mask is not None:
            features = features.masked_fill(~mask[..., None], 0)
        projected: Tensor = self.projection(features)
        return projected

    def _embed(self, features: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        frames = self._project(features, mask)
        cls = self.cls_token.to(frames.dtype).expand(len(frames), -1, -1)
        hidden: Tensor = self.embeddings(torch.cat([cls, frames], dim=1), positions)  # (B, T+1, E)
        return hidden

    def _rest_last_layer(self) -> None:
        """No frame row leaves the last layer: its local projections get no gradient, here or in the release.

        They stay for the sake of the release's checkpoints; data-parallel training waits for every
        parameter that asks for a gradient.
        """
        for name, parameter in self._stack[-1].attention.named_parameters():
            if name.startswith(LOCAL_PROJECTIONS):
                parameter.requires_grad_(False)


class Embeddings(nn.Module):
    """Token + position + type, LayerNorm, dropout. CLS has type 1, frames have type 0."""

    def __init__(self, width: int, config: TemporalConfig) -> None:
        super().__init__()
        # As in the release: the table's last row belongs to padding, the one before it to CLS.
        self.cls_position = config.max_positions - 2
        self.kind = config.position
        # Waves much larger than the features drown them: training then stays at chance (docs/LOG.md).
        self.scale = config.position_scale
        if self.kind == "learned":
            self.positions = nn.Embedding(config.max_positions, width)
        self.token_types = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Embed (B, T+1, E) with the frames' position ids (B, T)."""
        frame_type, cls_type = self.token_types.weight
        hidden = torch.cat([tokens[:, :1] + cls_type, tokens[:, 1:] + frame_type], dim=1)
        if self.kind == "learned":
            # Ids beyond the table wrap, as in the release; waves need no table and do not.
            hidden = hidden + self.positions(self._with_cls(positions % self.cls_position))
        elif self.kind == "sinusoidal":
            waves = sinusoids(self._with_cls(positions), tokens.shape[-1])
            hidden = hidden + self.scale * waves.to(hidden.dtype)
        embedded: Tensor = self.dropout(self.norm(hidden))
        return embedded

    def _with_cls(self, positions: Tensor) -> Tensor:
        return F.pad(positions, (1, 0), value=self.cls_position)  # (B, T+1)


class Layer(nn.Module):
    """Attention and feed-forward, each followed by its LayerNorm (post-LN, as BERT)."""

    def __init__(self, width: int, config: TemporalConfig, *, window: int) -> None:
        super().__init__()
        self.attention = Attention(
            width,
            heads=config.heads,
            kind=config.attention,
            window=window,
            dropout=config.attention_dropout,
        )
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=EPSILON)
        self.intermediate = nn.Linear(width, config.feedforward)
        self.output = nn.Linear(config.feedforward, width)
        self.output_norm = nn.LayerNorm(width, eps=EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """All rows: (B, T+1, E) -> (B, T+1, E)."""
        return self.finish(hidden, self.attention(hidden, mask))

    def cls(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """The CLS row alone: (B, T+1, E) -> (B, 1, E)."""
        return self.finish(hidden[:, :1], self.attention.cls(hidden, mask))

    def finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """Everything after the attention, row by row."""
        middle = self.attention_norm(hidden + self.dropout(self.attention_output(attended)))
        forward = self.output(F.gelu(self.intermediate(middle)))
        finished: Tensor = self.output_norm(middle + self.dropout(forward))
        return finished


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Fixed waves of position ids, (...,) -> (..., width): sines, then cosines (Vaswani et al. 2017)."""
    half = (width + 1) // 2
    steps = torch.arange(half, device=positions.device, dtype=torch.float32)
    angles = positions[..., None].float() * WAVELENGTH ** (-steps / half)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[..., :width]


def _mean(features: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the real frames, whose padding is zero already: (B, T, E) -> (B, E)."""
    if mask is None:
        return features.mean(dim=1)
    real = mask[..., None].to(features.dtype)
    return (features * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


def _initialise(module: nn.Module) -> None:
    """The release's start: weights N(0, 0.02), biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_SPREAD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
