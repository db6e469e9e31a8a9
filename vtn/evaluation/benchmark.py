"""What one VTN costs on the device at hand: time, memory, parameters and multiply-adds, all measured."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from vtn.model.vtn import VTN
    from vtn.sections import SpeedConfig

# The least that a median of whole batches is taken over.
MIN_BATCHES = 5
# Short measurements are made three times over, since another program's second beside them can double what they find.
ROUNDS, SHORT_SECONDS = 3, 2.0
MEBIBYTE = 2**20
LOCK = Path(tempfile.gettempdir()) / "vtn-benchmark.lock"


def measure(
    model: VTN,
    *,
    frames: int,
    crop: int,
    device: torch.device | str,
    speed: SpeedConfig,
    batch_size: int,
) -> dict[str, float]:
    """Time `model` on random videos of `frames` frames of `crop` x `crop` pixels.

    A pass takes normalised float32 tensors that already lie on `device` and gives logits: decoding, resizing
    and transfers are not in it. Only one process on a machine measures at a time, others wait for their turn;
    training that runs beside it is not held back. Of the rounds that `_quietest` makes the fastest counts: other
    programs only ever add time. The model ends on `device`, in the mode it came in.

    Args:
        model: a VTN in any mode; it is measured in eval mode.
        frames: T, frames of one video.
        crop: H and W, pixels.
        device: where to run.
        speed: passes to warm up, and passes to time.
        batch_size: B, videos at a time for the throughput, and for the throughput alone.

    Returns:
        latency_ms_p50, latency_ms_p95: one video, batch 1, one pass over all its frames.
        latency_ms_spread: 95th less 5th percentile of the same passes, those of the fastest round.
        backbone_ms_p50: the bare backbone on the same frames, its passes taking turns with the whole ones.
        over_backbone: latency_ms_p50 / backbone_ms_p50, what the temporal part and the head add.
        clips_per_second: batch_size / median time of a pass over batch_size videos.
        frames_per_second: clips_per_second * frames.
        peak_memory_mb: MiB, highest during passes of one video. On CUDA the tensors that PyTorch
            holds (`max_memory_allocated`), weights included. Elsewhere the resident set of this whole process,
            with libraries and all that it loaded before, read from VmHWM after a reset; where the system
            cannot reset it, the highest since the process began.
        parameters: weights of the whole model.
        gmacs: 1e9 multiply-adds of the pass over one video, see `multiply_adds`.
    """
    backbone = model.backbone
    assert backbone is not None, "a VTN on features has no whole-video pass to measure"
    device = torch.device(device)
    model.to(device)
    inputs = torch.randn(1, frames, 3, crop, crop, generator=torch.Generator().manual_seed(0)).to(device)
    positions = torch.arange(frames, device=device)[None]  # (1, T)
    batch = inputs.expand(batch_size, -1, -1, -1, -1).contiguous()  # (B, T, C, H, W)
    batch_positions = positions.expand(batch_size, -1).contiguous()  # (B, T)

    with _alone_on_this_machine(), _eval_mode(model), torch.inference_mode():
        passes = [lambda: model(inputs, positions), lambda: backbone(inputs[0])]
        batches = [lambda: model(batch, batch_positions)]
        # A batch is an average in itself: as many videos as above are enough.
        batch_repeats = max(MIN_BATCHES, speed.repeats // batch_size)
        _time(passes, repeats=speed.warmup, device=device)
        memory = _observe(passes, repeats=1, device=device)[1]
        macs = multiply_adds(passes[0])
        _time(batches, repeats=1, device=device)
        (whole, bare), (throughput,) = _quietest(
            [
                partial(_time, passes, repeats=speed.repeats, device=device),
                partial(_time, batches, repeats=batch_repeats, device=device),
            ]
        )

    p5, p50, p95 = np.percentile(whole, [5, 50, 95])
    clips_per_second = batch_size / float(np.median(throughput))
    return {
        "latency_ms_p50": 1000 * float(p50),
        "latency_ms_p95": 1000 * float(p95),
        "latency_ms_spread": 1000 * float(p95 - p5),
        "backbone_ms_p50": 1000 * float(np.median(bare)),
        "over_backbone": float(p50 / np.median(bare)),
        "clips_per_second": clips_per_second,
        "frames_per_second": clips_per_second * frames,
        "peak_memory_mb": memory / MEBIBYTE,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "gmacs": macs / 1e9,
    }


def measure_pass(model: nn.Module, inputs: Tensor, *, repeats: int) -> dict[str, float]:
    """What one pass of any model costs: `model(inputs)`, on the device where both lie.

    One pass warms up, and its multiply-adds are counted meanwhile: passes of minutes are not run for less.

    Returns:
        latency_ms_p50, latency_ms_spread, peak_memory_mb, parameters, gmacs: as `measure` has them.
    """
    with _alone_on_this_machine(), _eval_mode(model), torch.inference_mode():
        macs = multiply_adds(lambda: model(inputs))
        (seconds,), memory = _observe([lambda: model(inputs)], repeats=repeats, device=inputs.device)
    p5, p50, p95 = np.percentile(seconds, [5, 50, 95])
    return {
        "latency_ms_p50": 1000 * float(p50),
        "latency_ms_spread": 1000 * float(p95 - p5),
        "peak_memory_mb": memory / MEBIBYTE,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "gmacs": macs / 1e9,
    }


def multiply_adds(run: Callable[[], Any]) -> float:
    """Multiply-adds of one call: half the FLOPs that PyTorch counts, which is what papers call FLOPs.

    Counted are matrix products, convolutions and fused attention (its full T x T even under a mask);
    element-wise work, softmax and normalisation are not.
    """
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops()) / 2


def device_name(device: torch.device | str) -> str:
    """The name of the chip for people: of the GPU, or of the processor with PyTorch's number of threads."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"{name}, {threads} {'thread' if threads == 1 else 'threads'}"


def _observe(
    passes: list[Callable[[], Any]], *, repeats: int, device: torch.device
) -> tuple[list[np.ndarray], int]:
    """Seconds of each of `repeats` calls of each pass, and the most bytes held meanwhile."""
    _reset_peak_memory(device)
    seconds = _time(passes, repeats=repeats, device=device)
    return seconds, _peak_memory(device)


def _quietest(measurements: list[Callable[[], list[np.ndarray]]]) -> list[list[np.ndarray]]:
    """Each measurement at its fastest by the first median, of up to ROUNDS rounds; what takes long is made once."""
    rounds: list[list[list[np.ndarray]]] = []
    start = time.perf_counter()
    while len(rounds) < ROUNDS and time.perf_counter() - start < SHORT_SECONDS:
        rounds.append([measurement() for measurement in measurements])
    return [
        min(found, key=lambda seconds: float(np.median(seconds[0]))) for found in zip(*rounds, strict=True)
    ]


def _time(passes: list[Callable[[], Any]], *, repeats: int, device: torch.device) -> list[np.ndarray]:
    """Seconds of each of `repeats` calls, (repeats,) for each pass; the passes take turns.

    Taking turns spreads a slow second of the machine over all of them, so that their ratios stay true.
    """
    seconds = np.zeros((len(passes), repeats))
    for repeat in range(repeats):
        for index, run in enumerate(passes):
            _synchronise(device)
            start = time.perf_counter()
            run()
            _synchronise(device)
            seconds[index, repeat] = time.perf_counter() - start
    return list(seconds)


def _synchronise(device: torch.device) -> None:
    """Wait until an accelerator has done what was queued; a CPU has no queue."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextmanager
def _alone_on_this_machine() -> Iterator[None]:
    """Hold the machine's one turn to measure; the system frees it if this process dies."""
    # Mode 666: whoever comes first creates the file, and every user may lock it.
    with FileLock(LOCK, mode=0o666):
        yield


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode within; afterwards each module's own mode (a frozen part may differ from the rest)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM to the present size


def _peak_memory(device: torch.device) -> int:
    """Bytes, as described in `measure`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])  # in kB
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
