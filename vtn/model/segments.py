"""Inference over long clips a segment at a time, so that a video of hours stays in memory.

Row by row the results are those of one pass.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# Frames of a segment: as fast as one pass over all of them (docs/LOG.md); shorter ones repeat more at their edges.
SEGMENT = 1024


def by_segments(rows: Callable[[int, int], Tensor], frames: int, *, reach: int = 0) -> Tensor:
    """All rows (B, T+1, E) from `rows(start, stop)`: those of frames [start, stop), CLS before frame 0.

    `rows` also reads the frames within `reach` places of its own, so that longer segments repeat less of them.
    In training everything is one segment, since the gradient needs all of it anyway.
    """
    segment = max(SEGMENT, 8 * reach)
    if torch.is_grad_enabled() or frames <= segment:
        return rows(0, frames)
    first = rows(0, segment)
    whole = first.new_empty(len(first), frames + 1, first.shape[-1])
    whole[:, : segment + 1] = first
    for start in range(segment, frames, segment):
        stop = min(start + segment, frames)
        whole[:, start + 1 : stop + 1] = rows(start, stop)
    return whole
