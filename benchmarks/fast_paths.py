"""What each fast path of the temporal encoder saves: its time without the path over its time with all of them.

Run as `python -m benchmarks.fast_paths`: the release's encoder (3 layers of width 768, window 32), float32, batch 1.
All forms take turns on the same features; outputs are compared before anything is timed. The prediction counts
multiply-adds alone, with D features and T frames: four products of D x D and a feed-forward of eight a row and layer.
"""

import argparse
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks.longformer import WIDTH, WINDOW, inputs, ours, release_encoder
from benchmarks.timing import medians
from vtn.evaluation.benchmark import device_name
from vtn.model import attention, band, segments
from vtn.model.attention import Attended, Attention
from vtn.model.temporal import TemporalEncoder

LAYERS = 3
LENGTHS = (16, 250, 1000, 4000)
# Of CLS states, whose numbers have variance 1.
TOLERANCE = 2e-5
# Products of D x D a row: query, key, value and output, and the feed-forward; in all layers but the last.
ROW, ROWS = 12, 12 * (LAYERS - 1)


def every_row(encoder: TemporalEncoder, features: Tensor, positions: Tensor) -> Tensor:
    """The last layer for the frames too, though only CLS is read."""
    hidden = encoder.embed(features, positions)
    for layer in encoder.stack:
        hidden, _ = layer(hidden)
    return hidden[:, 0]


def projected_cls(self: Attention, hidden: Tensor, mask: Tensor | None = None) -> Attended:
    """CLS against the projected keys and values of all tokens."""
    query, key, value = (
        projection(rows).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        for projection, rows in (
            (self.query_global, hidden[:, :1]),
            (self.key_global, hidden),
            (self.value_global, hidden),
        )
    )
    weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)  # (B, N, 1, T+1)
    return Attended((weights @ value).transpose(1, 2).flatten(2), weights[:, :, 0])


def one_product(encoder: TemporalEncoder) -> Callable[..., Tensor]:
    """`Attention.frames` with query, key and value as one product of three weights, joined ahead of time."""
    joined = {
        layer.attention: tuple(
            torch.cat([getattr(getattr(layer.attention, name), part) for name in ("query", "key", "value")])
            for part in ("weight", "bias")
        )
        for layer in encoder.stack
    }

    def frames(self: Attention, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        parts = F.linear(hidden, *joined[self]).unflatten(-1, (3, self.heads, -1)).transpose(1, 3)
        query, key, value = parts.unbind(2)  # (B, N, T+1, D/N)
        found = attention.local_attention(
            query[:, :, 1:], key, value, reach=self.reach, mask=mask, dropout=0.0
        )
        return found.transpose(1, 2).flatten(2)

    return frames


def predictions(frames: int) -> list[float]:
    """Multiply-adds without each path over those with all, in the order of `forms`."""
    seen = 2 * WINDOW if frames > band.DENSE_BLOCKS * band.BLOCK else frames
    dense = min(frames, segments.SEGMENT + WINDOW)
    # Scores and their sums over S keys: 2 S D a row, in products of D x D.
    local, whole = (LAYERS - 1) * 2 * seen / WIDTH, (LAYERS - 1) * 2 * dense / WIDTH
    ours = ROWS + local
    last_layer = ROW + local / (LAYERS - 1)
    return [(ours + last_layer) / ours, (ours + 2 * LAYERS) / ours, (ROWS + whole) / ours, 1.0, 1.0]


@torch.inference_mode()
def compare(frames: int, repeats: int) -> str:
    """One line of the table."""
    encoder = ours(release_encoder(LAYERS), LAYERS).temporal
    features, positions = inputs(frames)

    def with_path(owner: object, name: str, path: object) -> Tensor:
        with patch.object(owner, name, path):
            return encoder(features, positions)

    forms = [
        partial(encoder, features, positions),
        partial(every_row, encoder, features, positions),
        partial(with_path, Attention, "cls", projected_cls),
        partial(with_path, attention, "local_attention", band.dense),
        partial(with_path, Attention, "frames", one_product(encoder)),
        partial(with_path, segments, "SEGMENT", frames),
    ]
    for form in forms[1:]:
        difference = float((form() - forms[0]()).abs().max())
        assert difference < TOLERANCE, difference
    fast, *slower = medians(forms, repeats)
    cells = [
        f"{predicted:8.2f} {slow / fast:5.2f}"
        for predicted, slow in zip(predictions(frames), slower, strict=True)
    ]
    return f"{frames:6} {fast:8.1f}  " + "  ".join(cells)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{device_name('cpu')}: predicted by multiply-adds and measured, time without the path / with all paths"
    )
    print(
        "frames       ms   last layer whole    CLS projected   dense attention    q, k, v joined      one segment"
    )
    for frames in LENGTHS:
        print(compare(frames, options.repeats), flush=True)


if __name__ == "__main__":
    main()
