import math
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from vtn.evaluation import benchmark
from vtn.sections import ModelConfig, SpeedConfig

SPEED = SpeedConfig(warmup=1, repeats=5)
KEYS = {
    "latency_ms_p50",
    "latency_ms_p95",
    "latency_ms_spread",
    "backbone_ms_p50",
    "over_backbone",
    "clips_per_second",
    "frames_per_second",
    "peak_memory_mb",
    "parameters",
    "gmacs",
}


class Pixels(nn.Module):
    """A backbone of one linear map per frame: C*H*W*D multiply-adds, and a wait."""

    def __init__(self, crop, width, seconds):
        super().__init__()
        self.project = nn.Linear(3 * crop * crop, width)
        self.seconds = seconds

    def forward(self, frames):  # (M, C, H, W)
        time.sleep(self.seconds)
        return self.project(frames.flatten(1))


class StandIn(nn.Module):
    """The interface that `measure` asks of a VTN, with a cost known in advance."""

    def __init__(self, crop=8, width=16, classes=4, seconds=0.0, extra_seconds=0.0, hold=0):
        super().__init__()
        self.backbone = Pixels(crop, width, seconds)
        self.head = nn.Linear(width, classes)
        self.extra_seconds, self.hold = extra_seconds, hold
        self.seen = []

    def forward(self, frames, positions):
        self.seen.append(
            (tuple(frames.shape), tuple(positions.shape), self.training, torch.is_grad_enabled())
        )
        time.sleep(self.extra_seconds)
        ballast = torch.ones(self.hold)
        features = self.backbone(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # (B, T, D)
        return self.head(features.mean(1)) + ballast.sum() * 0


def measure(model, frames=6, crop=8, batch_size=2, speed=SPEED):
    return benchmark.measure(
        model, frames=frames, crop=crop, device="cpu", speed=speed, batch_size=batch_size
    )


def test_counts_are_exact_and_everything_is_finite():
    result = measure(StandIn())
    assert set(result) == KEYS
    assert all(math.isfinite(value) and value > 0 for value in result.values())
    assert result["parameters"] == (3 * 8 * 8 * 16 + 16) + (16 * 4 + 4)
    assert result["gmacs"] * 1e9 == pytest.approx(6 * 3 * 8 * 8 * 16 + 16 * 4)
    assert result["frames_per_second"] == pytest.approx(6 * result["clips_per_second"])
    assert result["latency_ms_p95"] >= result["latency_ms_p50"]


def test_any_model_is_measured_by_its_pass():
    model = Pixels(crop=8, width=16, seconds=0.004).train()
    result = benchmark.measure_pass(model, torch.randn(5, 3, 8, 8), repeats=4)
    assert result["parameters"] == 3 * 8 * 8 * 16 + 16
    assert result["gmacs"] * 1e9 == pytest.approx(5 * 3 * 8 * 8 * 16)
    assert 4 <= result["latency_ms_p50"] < 200
    assert result["latency_ms_spread"] >= 0
    assert result["peak_memory_mb"] > 50
    assert model.training


def test_times_are_those_of_the_passes():
    result = measure(StandIn(seconds=0.004, extra_seconds=0.008))
    assert 12 <= result["latency_ms_p50"] < 200  # a busy machine oversleeps
    assert 4 <= result["backbone_ms_p50"] < result["latency_ms_p50"]
    assert result["over_backbone"] == pytest.approx(result["latency_ms_p50"] / result["backbone_ms_p50"])
    assert 2 / 0.200 < result["clips_per_second"] <= 2 / 0.012


def test_passes_take_turns():
    order = []
    passes = [lambda: order.append("whole"), lambda: order.append("backbone")]
    benchmark._time(passes, repeats=3, device=torch.device("cpu"))
    assert order == ["whole", "backbone"] * 3


def test_the_fastest_round_of_each_measurement_counts():
    slow_then_fast, fast_then_slow = iter([5.0, 1.0, 3.0]), iter([2.0, 4.0, 6.0])
    found = benchmark._quietest(
        [lambda: [np.array([next(slow_then_fast)])], lambda: [np.array([next(fast_then_slow)])]]
    )
    assert [float(seconds[0][0]) for seconds in found] == [1.0, 2.0]


def test_what_takes_long_is_measured_once(monkeypatch):
    monkeypatch.setattr(benchmark, "SHORT_SECONDS", 0.0001)
    rounds = []
    benchmark._quietest([lambda: rounds.append(time.sleep(0.001)) or [np.ones(1)]])
    assert len(rounds) == 1


def test_latency_is_one_video_and_throughput_a_batch_in_eval_and_inference_mode():
    model = StandIn()
    measure(model, batch_size=3)
    shapes = {frames for frames, _, _, _ in model.seen}
    assert shapes == {(1, 6, 3, 8, 8), (3, 6, 3, 8, 8)}
    assert all(positions == frames[:2] for frames, positions, _, _ in model.seen)
    assert not any(training or gradients for _, _, training, gradients in model.seen)


def test_each_module_returns_to_its_own_mode_even_after_an_error():
    model = StandIn()
    model.train()
    model.backbone.eval()
    measure(model)
    assert model.training
    assert model.head.training
    assert not model.backbone.training
    with pytest.raises(RuntimeError):
        measure(model, crop=9)
    assert model.training
    assert not model.backbone.training


def test_peak_memory_sees_what_a_pass_holds_for_a_moment():
    plain = measure(StandIn())["peak_memory_mb"]
    heavy = measure(StandIn(hold=64 * 2**20 // 4 * 4))["peak_memory_mb"]
    assert 200 < heavy - plain < 400  # 256 MiB of float32
    assert measure(StandIn())["peak_memory_mb"] < plain + 100  # an earlier peak is forgotten


def test_peak_memory_has_a_fallback_where_it_cannot_be_reset(monkeypatch):
    monkeypatch.setattr(benchmark.sys, "platform", "freebsd")
    assert measure(StandIn())["peak_memory_mb"] > 50


def test_a_second_measurement_waits_for_the_first():
    code = (
        "import sys; from filelock import FileLock\n"
        f"with FileLock({str(benchmark.LOCK)!r}, mode=0o666): print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as other:
        assert other.stdout.readline() == b"held\n"
        model = StandIn()
        waiting = threading.Thread(target=measure, args=(model,))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        assert not model.seen
        other.stdin.close()
        waiting.join(30)
        assert model.seen


def test_device_name_names_the_processor_and_its_threads():
    name = benchmark.device_name("cpu")
    threads = torch.get_num_threads()
    assert name.endswith(f", {threads} thread" + ("" if threads == 1 else "s"))
    assert name.split(",")[0].strip()


@pytest.fixture
def vtn():
    from vtn.model.vtn import build  # timm: 9 s of CPU

    torch.manual_seed(0)
    return build(ModelConfig(), num_classes=8, crop=32)


def test_the_real_model_is_measured_and_can_be_trained_afterwards(vtn):
    result = measure(vtn, frames=5, crop=32)
    assert set(result) == KEYS
    assert all(math.isfinite(value) for value in result.values())
    with torch.no_grad():
        backbone = benchmark.multiply_adds(lambda: vtn.backbone(torch.zeros(5, 3, 32, 32)))
    assert backbone < result["gmacs"] * 1e9 < 2 * backbone
    # Nothing that the model keeps from an inference pass may spoil a training step.
    vtn(torch.zeros(2, 5, 3, 32, 32), torch.arange(5).expand(2, -1)).sum().backward()


@pytest.mark.gpu
def test_on_a_gpu_memory_is_what_pytorch_holds(vtn):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    result = benchmark.measure(vtn, frames=5, crop=32, device="cuda", speed=SPEED, batch_size=2)
    weights = sum(parameter.nbytes for parameter in vtn.parameters()) / 2**20
    assert weights < result["peak_memory_mb"] < weights + 1000
    assert benchmark.device_name("cuda") == torch.cuda.get_device_name()
