"""Where attention by blocks overtakes one dense product under a mask: what vtn/model/band.py's DENSE_BLOCKS rests on.

Run as `python -m benchmarks.window_attention`: both paths by turns on the same tensors.
"""

import argparse
from functools import partial

import torch

from benchmarks.timing import medians
from vtn.evaluation.benchmark import device_name
from vtn.model.band import DENSE_BLOCKS, block_length, blocked, dense


@torch.inference_mode()
def ratio(frames: int, *, reach: int, heads: int, width: int, repeats: int) -> float:
    """Time of the dense path over that of the blocks."""
    query, key, value = (torch.randn(1, heads, frames + extra, width // heads) for extra in (0, 1, 1))
    paths = [
        partial(path, query, key, value, reach=reach, mask=None, dropout=0.0) for path in (dense, blocked)
    ]
    difference = (paths[0]() - paths[1]()).abs().max()
    assert difference < 1e-5, difference
    slow, fast = medians(paths, repeats)
    return slow / fast


def main() -> None:
    """Print dense / blocked by window and length in blocks; above 1 blocks are faster."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=31)
    options = parser.parse_args()
    lengths = (1, 2, 3, 4, 6, 8)
    print(
        f"{device_name('cpu')}: dense / blocked at T = 1 to 8 blocks; the dense path ends at {DENSE_BLOCKS}"
    )
    print("width heads window  block" + "".join(f"{f'{count} blocks':>10}" for count in lengths))
    for width, heads in ((96, 4), (768, 12)):
        for window in (4, 16, 32, 64):
            block = block_length(window // 2)
            ratios = [
                ratio(count * block, reach=window // 2, heads=heads, width=width, repeats=options.repeats)
                for count in lengths
            ]
            print(f"{width:5} {heads:5} {window:6} {block:6}" + "".join(f"{value:10.2f}" for value in ratios))


if __name__ == "__main__":
    main()
