"""The temporal encoder: CLS and frame features through post-LN layers, read at CLS."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vtn.model.attention import Attended, Attention
from vtn.model.segments import by_segments
from vtn.sections import TemporalConfig

# Inside the encoder the release keeps Longformer's epsilon; its head has PyTorch's own 1e-5.
EPSILON = 1e-12
INITIAL_SPREAD = 0.02
WAVELENGTH = 10_000.0
LOCAL_PROJECTIONS = ("query.", "key.", "value.")


class Encoded(NamedTuple):
    """Clip vectors and how CLS weighed the tokens on the way, in float32."""

    clip: Tensor  # (B, E)
    cls_weights: list[Tensor]  # per layer (B, N, T+1), CLS itself first


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
        # Post-LN layers end in a norm of their own, pre-LN layers do not.
        self.final_norm = nn.LayerNorm(self.width, eps=EPSILON) if config.norm == "pre" else nn.Identity()
        if config.layers:
            self._rest_last_layer()

    def forward(self, features: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Clip vectors (B, E) of features (B, T, D), position ids (B, T) int64, mask (B, T) True where real."""
        return self.encode(features, positions, mask).clip

    def encode(self, features: Tensor, positions: Tensor, mask: Tensor | None = None) -> Encoded:
        """As `forward`, with the attention of CLS; without layers there is none."""
        if not self.layers:
            return Encoded(_mean(self._project(features, mask), mask), [])
        hidden, weights = self.embed(features, positions, mask), []
        *body, last = self.stack
        for layer in body:
            hidden, cls_weights = layer(hidden, mask)
            weights.append(cls_weights)
        # Only CLS is read, so the last layer computes nothing for the frames.
        cls, cls_weights = last.cls(hidden, mask)
        return Encoded(self.final_norm(cls[:, 0]), [*weights, cls_weights])

    def reference(self, features: Tensor, positions: Tensor, mask: Tensor | None = None) -> Trace:
        """All rows of all layers through the plain attention; `hidden[-1][:, 0]` is what forward returns."""
        if not self.layers:
            return Trace([self.encode(features, positions, mask).clip[:, None]], [], [])
        trace = Trace([self.embed(features, positions, mask)], [], [])
        for layer in self.stack:
            attended = layer.attention.reference(layer.attention_input(trace.hidden[-1]), mask)
            trace.hidden.append(layer.finish(trace.hidden[-1], attended.context))
            trace.cls_weights.append(attended.cls_weights)
            trace.frame_weights.append(attended.frame_weights)
        trace.hidden[-1] = self.final_norm(trace.hidden[-1])
        return trace

    @property
    def stack(self) -> Sequence["Layer"]:
        """The layers, typed."""
        return cast(Sequence[Layer], self.layers)

    def _project(self, features: Tensor, mask: Tensor | None) -> Tensor:
        # Padding may hold anything, and zero times NaN is NaN even where attention gives it no weight.
        if mask is not None:
            features = features.masked_fill(~mask[..., None], 0)
        projected: Tensor = self.projection(features)
        return projected

    def embed(self, features: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """What enters the first layer: CLS and the frames, (B, T+1, E)."""

        def rows(start: int, stop: int) -> Tensor:
            real = None if mask is None else mask[:, start:stop]
            frames: Tensor = self.embeddings(
                self._project(features[:, start:stop], real), positions[:, start:stop]
            )
            if start:
                return frames
            cls: Tensor = self.embeddings.of_cls(self.cls_token.to(frames.dtype)).expand(len(frames), -1, -1)
            return torch.cat([cls, frames], dim=1)

        return by_segments(rows, features.shape[1])

    def _rest_last_layer(self) -> None:
        """No frame row leaves the last layer: its local projections get no gradient, here or in the release.

        They stay for the sake of the release's checkpoints; data-parallel training waits for every
        parameter that asks for a gradient.
        """
        for name, parameter in self.stack[-1].attention.named_parameters():
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

    def forward(self, frames: Tensor, positions: Tensor) -> Tensor:
        """Embed frames (B, T, E) at position ids (B, T)."""
        if self.kind == "learned":
            # Ids beyond the table wrap, as in the release; waves need no table and do not.
            frames = frames + self.positions(positions % self.cls_position)
        elif self.kind == "sinusoidal":
            frames = frames + self._waves(positions, frames.dtype)
        return self._finish(frames + self.token_types.weight[0])

    def of_cls(self, token: Tensor) -> Tensor:
        """Embed the CLS token (1, 1, E)."""
        token = token + self.token_types.weight[1]
        if self.kind == "learned":
            token = token + self.positions.weight[self.cls_position]
        elif self.kind == "sinusoidal":
            token = token + self._waves(torch.tensor([self.cls_position], device=token.device), token.dtype)
        return self._finish(token)

    def _waves(self, positions: Tensor, dtype: torch.dtype) -> Tensor:
        return self.scale * sinusoids(positions, self.token_types.embedding_dim).to(dtype)

    def _finish(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.dropout(self.norm(tokens))
        return embedded


class Layer(nn.Module):
    """Attention and feed-forward. Post-LN, as BERT and the release: a norm after each. Pre-LN: a norm before each."""

    def __init__(self, width: int, config: TemporalConfig, *, window: int) -> None:
        super().__init__()
        self.pre_norm = config.norm == "pre"
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

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Attended:
        """All rows, (B, T+1, E) -> (B, T+1, E), and how CLS weighed them."""
        frames = hidden.shape[1] - 1
        cls = self.attention.cls(self.attention_input(hidden), mask)

        def rows(start: int, stop: int) -> Tensor:
            attended = self._attend(hidden, mask, start, stop)
            if start:
                return self.finish(hidden[:, start + 1 : stop + 1], attended)
            return self.finish(hidden[:, : stop + 1], torch.cat([cls.context, attended], dim=1))

        # Without a window every frame reads all others: one segment then.
        reach = frames if self.attention.reach is None else self.attention.reach
        return Attended(by_segments(rows, frames, reach=reach), cls.cls_weights)

    def cls(self, hidden: Tensor, mask: Tensor | None = None) -> Attended:
        """The CLS row alone, (B, T+1, E) -> (B, 1, E), and how it weighed all rows."""
        attended = self.attention.cls(self.attention_input(hidden), mask)
        return Attended(self.finish(hidden[:, :1], attended.context), attended.cls_weights)

    def attention_input(self, hidden: Tensor) -> Tensor:
        """What the attention sees of the rows."""
        seen: Tensor = self.attention_norm(hidden) if self.pre_norm else hidden
        return seen

    def finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """Everything after the attention, row by row."""
        middle: Tensor = hidden + self.dropout(self.attention_output(attended))
        if self.pre_norm:
            return middle + self._feed_forward(self.output_norm(middle))
        middle = self.attention_norm(middle)
        finished: Tensor = self.output_norm(middle + self._feed_forward(middle))
        return finished

    def _feed_forward(self, rows: Tensor) -> Tensor:
        fed: Tensor = self.dropout(self.output(F.gelu(self.intermediate(rows))))
        return fed

    def _attend(self, hidden: Tensor, mask: Tensor | None, start: int, stop: int) -> Tensor:
        """What frames [start, stop) gather, (B, stop - start, E): only frames within reach are touched."""
        frames = hidden.shape[1] - 1
        reach = frames if self.attention.reach is None else self.attention.reach
        low, high = max(start - reach, 0), min(stop + reach, frames)
        if high - low < frames:
            hidden = torch.cat([hidden[:, :1], hidden[:, low + 1 : high + 1]], dim=1)
            mask = None if mask is None else mask[:, low:high]
        gathered: Tensor = self.attention.frames(self.attention_input(hidden), mask)
        return gathered[:, start - low : stop - low]


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
