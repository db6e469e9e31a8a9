"""What the temporal encoder and the head add to a training step of the backbone.

Run as `python -m benchmarks.train_step`: both steps on the same tensors, by turns in one process, so that the
ratio of their medians does not depend on how busy or fast the machine is.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812

from vtn.model.vtn import build
from vtn.sections import HeadConfig, ModelConfig, TemporalConfig

CLIPS, FRAMES, CROP, CLASSES = 16, 8, 64, 8
TARGET = 1.15
MODEL = ModelConfig(
    temporal=TemporalConfig(layers=3, window=32, dropout=0.1, attention_dropout=0.1),
    head=HeadConfig(dropout=0.5),
)


def main() -> None:
    """Print the medians in milliseconds, and the step's ratio to the backbone fed as is and in its best layout."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=40)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    steps = _steps(MODEL)
    times = _interleave(steps, options.repeats)
    medians = {name: 1000 * statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:>26} {median:8.1f} ms")
    for name in ("bare backbone", "bare, channels last"):
        print(f"{'step / ' + name:>26} {medians['step'] / medians[name]:8.3f} (target {TARGET})")


def _steps(config: ModelConfig) -> dict[str, Callable[[], None]]:
    """The whole step, the bare timm network in two memory layouts, and the rest of the step on features."""
    model = build(config, num_classes=CLASSES, crop=CROP)
    assert model.backbone is not None
    backbone = model.backbone.network
    frames = torch.randn(CLIPS, FRAMES, 3, CROP, CROP)
    features = torch.randn(CLIPS, FRAMES, model.backbone.num_features, requires_grad=True)
    positions = torch.arange(FRAMES).mul(6).expand(CLIPS, -1)
    labels = torch.arange(CLIPS) % CLASSES

    def step() -> None:
        torch.autograd.backward(F.cross_entropy(model(frames, positions), labels))
        model.zero_grad()

    def bare(pixels: torch.Tensor) -> None:
        torch.autograd.backward(backbone(pixels).square().mean())
        backbone.zero_grad()

    def rest() -> None:
        clip = model.encode_time(features, positions)
        torch.autograd.backward(F.cross_entropy(model.classify(clip), labels))
        model.zero_grad()

    plain = frames.flatten(0, 1)
    channels_last = plain.contiguous(memory_format=torch.channels_last)
    return {
        "step": step,
        "bare backbone": lambda: bare(plain),
        "bare, channels last": lambda: bare(channels_last),
        "encoder and head alone": rest,
    }


def _interleave(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(-3, repeats):  # the first three rounds warm up
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repeat >= 0:
                times[name].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
