"""Time and memory of `vtn predict` on a video of hours, and whether chunks change the answer on one minute.

Run as `python -m benchmarks.long_video` where models/vtn is trained. The video is one minute, drawn and coded once and
muxed again and again, which a decoder cannot tell from a long recording.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch

from vtn.predictor import Predictor

HEIGHT, WIDTH, FPS = 240, 320, 25
GOAL_GIB, GOAL_DIFFERENCE = 2.5, 1e-5


def draw(path: Path, minutes: int) -> Path:
    """An H.264 file of a drifting pattern."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "28"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        minute = []
        for number in range(60 * FPS):
            ramps = [rows + number, columns + 2 * number, rows + columns - number]
            pixels = (np.stack(ramps, axis=-1) % 256).astype(np.uint8)
            minute += stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
        minute += stream.encode()
        coded = [
            (bytes(packet), packet.pts, packet.dts, packet.is_keyframe, packet.time_base) for packet in minute
        ]
        for repeat in range(minutes):
            for data, pts, dts, is_keyframe, time_base in coded:
                packet = av.Packet(data)
                shift = round(repeat * 60 / time_base)
                packet.pts, packet.dts, packet.time_base = pts + shift, dts + shift, time_base
                packet.is_keyframe, packet.stream = is_keyframe, stream
                container.mux(packet)
    return path


def watch(video: Path, *options: str) -> None:
    """Run `vtn predict` and print what it needed."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "vtn.cli", "predict", "--json", *options, str(video)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        output.seek(0)
        (answer,) = json.loads(output.read())
    assert status == 0, answer
    peak = usage.ru_maxrss / 2**20
    verdict = "met" if peak < GOAL_GIB else "MISSED"
    print(
        f"{answer['seconds']:.0f} s of video, {answer['frames']} frames through the model, "
        f"{time.perf_counter() - start:.0f} s, peak {peak:.2f} GiB (goal {GOAL_GIB}: {verdict}) "
        f"{' '.join(options)}",
        flush=True,
    )


@torch.inference_mode()
def compare(model: Path, video: Path) -> None:
    """Print the greatest difference of a clip vector and of a probability between one pass and chunks."""
    found = []
    for chunk in (10**6, 64, 7):
        predictor = Predictor(model, torch.device("cpu"), max_frames=10**6, chunk=chunk)
        with predictor.watch(video) as watched:
            clip = predictor.model.encode_time(watched.features, watched.positions)
        found.append((clip, predictor.model.classify(clip).softmax(dim=-1)))
    for chunk, others in zip((64, 7), found[1:], strict=True):
        clip, probability = (
            float((one - other).abs().max()) for one, other in zip(found[0], others, strict=True)
        )
        verdict = "met" if max(clip, probability) < GOAL_DIFFERENCE else "MISSED"
        print(
            f"chunks of {chunk} and one pass of {watched.features.shape[1]} frames differ by {clip:.1e} in the clip "
            f"vector, {probability:.1e} in a probability (goal {GOAL_DIFFERENCE}: {verdict})"
        )


def main() -> None:
    """Draw, predict, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/vtn"))
    parser.add_argument("--minutes", type=int, default=120)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = draw(Path(folder) / "long.mp4", options.minutes)
        print(
            f"{options.minutes} minutes of {WIDTH}x{HEIGHT} at {FPS} frames a second, {video.stat().st_size >> 20} MiB"
        )
        watch(video, "--model", str(options.model))
        watch(video, "--model", str(options.model), "--max-frames", "1000000")
        compare(options.model, draw(Path(folder) / "minute.mp4", 1))


if __name__ == "__main__":
    main()
