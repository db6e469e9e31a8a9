"""Our temporal encoder against transformers' Longformer as the authors' release uses it.

Run as `python -m benchmarks.longformer`: same weights, same features, by turns in one process, so that the ratio
of the medians does not depend on how busy or fast the machine is. Outputs are compared before anything is timed.
`--variants bf16 compiled` times ours in those forms too. What each side needs beyond its weights is measured
last, every pass in a process of its own.
"""

import argparse
import copy
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import LongformerConfig, LongformerModel

from benchmarks.timing import medians
from vtn.evaluation.benchmark import device_name
from vtn.model.release import from_release
from vtn.model.vtn import VTN

WIDTH, HEADS, WINDOW, FEEDFORWARD, POSITIONS = 768, 12, 32, 3072, 288
LENGTHS = (16, 64, 250, 1000, 4000)
GOALS = {(3, 16): 2.9, (3, 250): 1.75, (3, 1000): 1.75, (3, 4000): 1.75, (1, 250): 15.0, (1, 1000): 35.0}
# Of CLS states, whose numbers have variance 1.
TOLERANCES = {"ours": 2e-5, "compiled": 2e-5, "bf16": 0.1}


def release_encoder(layers: int) -> LongformerModel:
    """The release's temporal encoder with random weights."""
    config = LongformerConfig(
        vocab_size=1,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_hidden_layers=layers,
        intermediate_size=FEEDFORWARD,
        max_position_embeddings=POSITIONS,
        attention_window=[WINDOW] * layers,
        pad_token_id=0,
        layer_norm_eps=1e-12,
    )
    torch.manual_seed(0)
    return LongformerModel(config, add_pooling_layer=False).eval()


def ours(theirs: LongformerModel, layers: int) -> VTN:
    """Our model with the same weights."""
    state = {f"temporal_encoder.{name}": tensor for name, tensor in theirs.state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if "word_embeddings" not in name}
    head = {
        "mlp_head.0.weight": torch.ones(WIDTH),
        "mlp_head.0.bias": torch.zeros(WIDTH),
        "mlp_head.1.weight": torch.zeros(WIDTH, WIDTH),
        "mlp_head.1.bias": torch.zeros(WIDTH),
        "mlp_head.4.weight": torch.zeros(2, WIDTH),
        "mlp_head.4.bias": torch.zeros(2),
    }
    cls = {"cls_token": torch.randn(1, 1, WIDTH, generator=torch.Generator().manual_seed(1))}
    return from_release(state | head | cls, num_heads=HEADS, attention_window=WINDOW)


def release_pass(encoder: LongformerModel, cls_token: Tensor, features: Tensor, positions: Tensor) -> Tensor:
    """CLS state (B, D) of features (B, T, D): padded to twice the window, CLS global, all as the release does."""
    clips, frames = positions.shape
    padding = -(frames + 1) % (2 * WINDOW)
    tokens = F.pad(torch.cat([cls_token.expand(clips, -1, -1), features], dim=1), (0, 0, 0, padding))
    period = POSITIONS - 2
    ids = F.pad(F.pad(positions % period, (1, 0), value=period), (0, padding), value=period + 1)
    attention = F.pad(torch.ones_like(positions), (1, 0), value=2)
    types = F.pad(torch.zeros_like(positions), (1, 0), value=1)
    output = encoder(
        inputs_embeds=tokens,
        attention_mask=F.pad(attention, (0, padding)),
        token_type_ids=F.pad(types, (0, padding)),
        position_ids=ids,
    )
    state: Tensor = output.last_hidden_state[:, 0]
    return state


def inputs(frames: int) -> tuple[Tensor, Tensor]:
    """Features (1, T, D) and positions (1, T)."""
    return torch.randn(1, frames, WIDTH, generator=torch.Generator().manual_seed(2)), torch.arange(frames)[
        None
    ]


def matmul_floor(layers: int, frames: int) -> list[tuple[Tensor, Tensor]]:
    """The products with weights that no implementation can leave out: four projections and the feed-forward, of
    all rows in all layers but the last, of one row in the last."""
    products = []
    for rows in (*[frames + 1] * (layers - 1), 1):
        sizes = [(WIDTH, WIDTH)] * 4 + [(WIDTH, FEEDFORWARD), (FEEDFORWARD, WIDTH)]
        products += [(torch.randn(rows, inner), torch.randn(outer, inner).T) for inner, outer in sizes]
    return products


def variant(name: str, model: VTN) -> Callable[[Tensor, Tensor], Tensor]:
    """Our encoder in another form, from float32 features."""
    if name == "bf16":
        narrow = copy.deepcopy(model).bfloat16()
        return lambda features, positions: narrow.encode_time(features.bfloat16(), positions).float()
    torch.compiler.reset()  # each size and number of threads is compiled anew, and their number is limited
    compiled: Callable[[Tensor, Tensor], Tensor] = torch.compile(model.temporal, fullgraph=True)
    return compiled


@torch.inference_mode()
def compare(layers: int, frames: int, repeats: int, variants: list[str]) -> str:
    """One line of the table."""
    theirs = release_encoder(layers)
    model = ours(theirs, layers)
    features, positions = inputs(frames)
    forms = {"ours": model.encode_time} | {name: variant(name, model) for name in variants}
    expected = release_pass(theirs, model.temporal.cls_token, features, positions)
    for name, form in forms.items():
        difference = float((form(features, positions) - expected).abs().max())
        assert difference < TOLERANCES[name], f"{name}: the outputs differ by {difference}"
    products = matmul_floor(layers, frames)
    release, floor, fast, *others = medians(
        [
            partial(release_pass, theirs, model.temporal.cls_token, features, positions),
            lambda: [left @ right for left, right in products],
            *(partial(form, features, positions) for form in forms.values()),
        ],
        repeats,
    )
    goal = GOALS.get((layers, frames))
    verdict = "" if goal is None else f"{goal:5.2f} {'met' if release / fast >= goal else 'MISSED'}"
    ratios = f"{release / fast:7.2f} {fast / floor:9.2f}" + "".join(
        f"{release / other:10.2f}" for other in others
    )
    return f"{layers:6} {frames:7} {release:12.1f} {fast:9.2f} {ratios}   {verdict}"


@torch.inference_mode()
def memory(side: str, frames: int) -> None:
    """Print the extra memory of one pass, MB beyond weights and features, and the process' own peak."""
    run: Callable[[Tensor, Tensor], Tensor]
    theirs = release_encoder(3)
    model = ours(theirs, 3)
    features, positions = inputs(frames)
    if side == "release":
        run = partial(release_pass, theirs, model.temporal.cls_token)
    else:
        run = model.encode_time
        del theirs
    run(features[:, :64], positions[:, :64])
    before = reset_peak()
    run(features, positions)
    print(
        f"{side} T {frames}: {(peak_bytes() - before) / 1e6:.0f} MB extra, {peak_bytes() / 2**30:.2f} GiB in all"
    )


def reset_peak() -> int:
    """Bring the process' peak memory down to what it holds now; returns that, bytes (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    """The most that the process has held since."""
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--variants", nargs="+", choices=["bf16", "compiled"], default=[])
    parser.add_argument("--memory", nargs=2, metavar=("SIDE", "T"), help="release or ours, and frames")
    options = parser.parse_args()
    if options.memory:
        memory(options.memory[0], int(options.memory[1]))
        return
    for threads in options.threads:
        torch.set_num_threads(threads)
        print(
            f"{device_name('cpu')}, float32, batch 1, width {WIDTH}, window {WINDOW}; ms, medians of {options.repeats}"
        )
        apart = "".join(f"{name:>10}" for name in options.variants)
        print(f"layers  frames  Longformer      ours   ratio / matmuls{apart}   goal")
        for layers in (3, 1):
            for frames in LENGTHS:
                print(compare(layers, frames, options.repeats, options.variants), flush=True)
    for side, frames in (("release", 4000), ("ours", 4000), ("ours", 100_000)):
        subprocess.run(
            [sys.executable, "-m", "benchmarks.longformer", "--memory", side, str(frames)], check=True
        )


if __name__ == "__main__":
    main()
