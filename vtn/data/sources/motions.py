"""The embedded data set: clips of nine movements, drawn on this machine as H.264 files."""

import io
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vtn.data.sources import motion_clips
from vtn.data.sources.motion_clips import CLASSES, draw_clip
from vtn.sections import MotionsConfig

if TYPE_CHECKING:  # a worker process imports this module and needs no pandas, which takes a second
    import pandas as pd

RECIPE_FILE = "recipe.json"
ENCODER = {"preset": "ultrafast", "crf": "20"}
CHUNK = 16  # clips a task: about 0.1 s of work, so that the progress bar moves


class Clip(NamedTuple):
    """One clip to draw; its pixels follow from the seed and its name, whoever draws it and when."""

    split: str
    label: str
    number: int

    @property
    def video(self) -> str:
        """Path relative to the directory of videos."""
        return f"{self.split}/{self.label}_{self.number:04d}.mp4"


def prepare(config: MotionsConfig, videos: Path, *, seed: int, workers: int | None) -> "pd.DataFrame":
    """Draw the clips that `videos` lacks, remove those of another recipe, and return the annotations.

    `workers` processes (None: one a core, 0: this one) share the work. A run that was killed goes on.
    """
    import pandas as pd

    if config.train_clips < len(CLASSES):
        raise ValueError(
            f"dataset.motions.train_clips: {config.train_clips} leaves a class without a training clip; "
            f"ask for {len(CLASSES)} or more"
        )
    clips = list(_clips(config))
    _clear(videos, keep={clip.video for clip in clips}, recipe=_recipe(config.size, seed))
    missing = [clip for clip in clips if not (videos / clip.video).is_file()]
    _draw_all(missing, videos, size=config.size, seed=seed, workers=workers)
    rows = [(clip.video, clip.label, clip.split) for clip in clips]
    return pd.DataFrame(rows, columns=["video", "label", "split"])


def encode(frames: NDArray[np.uint8], fps: int) -> bytes:
    """An mp4 file with one H.264 stream of RGB frames (F, H, W, 3)."""
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=ENCODER)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the bytes must not depend on the number of cores
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return memory.getvalue()


def _clips(config: MotionsConfig) -> Iterator[Clip]:
    totals = {"train": config.train_clips, "val": config.val_clips, "test": config.test_clips}
    for split, total in totals.items():
        for number in range(total):
            yield Clip(split, CLASSES[number % len(CLASSES)], number // len(CLASSES))


def _recipe(size: int, seed: int) -> str:
    """Everything that the pixels of a clip follow from."""
    drawing = sha256(Path(motion_clips.__file__).read_bytes()).hexdigest()
    return json.dumps({"seed": seed, "size": size, "drawing": drawing, "encoder": ENCODER}, indent=2) + "\n"


def _clear(videos: Path, *, keep: set[str], recipe: str) -> None:
    """Remove drawn clips that are not wanted, or all of them if they followed another recipe."""
    recipe_file = videos / RECIPE_FILE
    if not recipe_file.is_file() or recipe_file.read_text() != recipe:
        keep = set()
    for path in videos.glob("*/*_[0-9][0-9][0-9][0-9]*.mp4*"):
        if path.relative_to(videos).as_posix() not in keep:
            path.unlink()
    videos.mkdir(parents=True, exist_ok=True)
    _write(recipe_file, recipe.encode())


def _draw_all(clips: list[Clip], videos: Path, *, size: int, seed: int, workers: int | None) -> None:
    for clip in clips:
        (videos / clip.split).mkdir(exist_ok=True)
    chunks = [clips[start : start + CHUNK] for start in range(0, len(clips), CHUNK)]
    processes = min(os.cpu_count() or 1 if workers is None else workers, len(chunks))
    with tqdm(total=len(clips), desc="drawing clips", unit="clip", disable=None if clips else True) as bar:
        if processes <= 1:
            for chunk in chunks:
                bar.update(_draw_chunk(chunk, videos, size, seed))
            return
        # Spawned, not forked: PyAV and OpenCV may hold threads and locks that a fork would copy.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent) as pool:
            tasks = [pool.submit(_draw_chunk, chunk, videos, size, seed) for chunk in chunks]
            try:
                for task in tasks:
                    bar.update(task.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _draw_chunk(clips: list[Clip], videos: Path, size: int, seed: int) -> int:
    for clip in clips:
        rng = np.random.default_rng((seed, *clip.video.encode()))
        frames, fps = draw_clip(clip.label, rng, size)
        _write(videos / clip.video, encode(frames, fps))
    return len(clips)


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def _end_with_parent() -> None:
    """Make a worker end when the main process is killed; it would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
