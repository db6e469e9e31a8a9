"""One pass over one video: upright RGB frames with their times, and an account of what was found.

The only reader of videos. Whatever a file holds, the answer is an `Outcome`, never an exception.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

# FFmpeg's own errors, and what PyAV raises for pixel formats and sizes that it cannot turn into an array.
DECODER_ERRORS = (av.FFmpegError, ValueError, OSError, OverflowError, MemoryError)
# Where a file names no rate at all (a GIF or WebM of one frame), nothing depends on the guess.
FALLBACK_FPS = 25.0
# Headers count packets that show nothing (dropped frames of AVI, MPEG-4 placeholders), one or two as a rule.
UNCOUNTED_FRAMES, UNCOUNTED_SHARE = 2, 0.05
# Times are rounded (WebM: to milliseconds) and jitter: a frame may come this share of an interval early.
EARLY = 0.2


class Status(StrEnum):
    """What became of a video: the closed set of the manifest's `status` column."""

    OK = "ok"
    MISSING = "missing file"
    UNREADABLE = "unreadable"
    NO_STREAM = "no video stream"
    NO_FRAME = "no frame"
    TOO_SHORT = "too short"
    TRUNCATED = "truncated"

    @property
    def accepted(self) -> bool:
        """Whether the video's frames go into the store.

        A truncated video is accepted: the frames found are real, its label still holds for most of them, and
        a test video thrown away would count as wrong. The status and the two counts say so to whoever
        wants to leave it out.
        """
        return self in (Status.OK, Status.TRUNCATED)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one video held; 0 and "" stand for unknown.

    `frames` were yielded, `frames_decoded` came before thinning, `frames_expected` by the header's count or, where
    it has none, by its duration. `width` and `height` are pixels as coded, `rotation` the degrees
    counter-clockwise (0, 90, 180, 270) that were applied after it. `seconds` is the end of the last frame.
    """

    status: Status
    reason: str = ""
    frames: int = 0
    frames_decoded: int = 0
    frames_expected: int = 0
    width: int = 0
    height: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    rotation: int = 0
    codec: str = ""


def decode(path: Path, *, max_fps: float | None = None) -> "Decoding":
    """Decode a video; iterate over the result for (seconds, frame), then ask it for its `outcome`.

    `max_fps` thins by time: at most one frame in each interval of 1 / max_fps seconds, none twice.
    """
    return Decoding(path, max_fps)


class Decoding:
    """Iterates once over (seconds since the first frame, RGB uint8 (H, W, 3)), rotated upright.

    Pixels stay as coded where their aspect ratio is not square: the published models were trained that
    way (the 340x256 copies of Kinetics carry ratios such as 64:51), and all frames of a video agree anyway.
    """

    def __init__(self, path: Path, max_fps: float | None) -> None:
        self._path = path
        self._max_fps = max_fps
        self._opened = False
        self._error = ""
        self._found = Outcome(status=Status.NO_STREAM)

    def __iter__(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        try:
            if not self._path.is_file():
                return
            # The prefix keeps names such as `concat:a` or `-a` from being read as protocols or options.
            with av.open(f"file:{self._path.absolute()}", metadata_errors="replace") as container:
                self._opened = True
                stream = container.streams.best("video")
                # A cover picture in a sound file is a stream too, but not a video.
                if stream is not None and not stream.disposition & Disposition.attached_pic:
                    self._read_header(container, stream)
                    yield from self._upright_frames(container, stream)
        except DECODER_ERRORS as error:
            self._error = _plain(error)

    def outcome(self, *, min_frames: int = 1) -> Outcome:
        """The account of the whole pass, complete once the iteration has ended."""
        status, reason = self._verdict(min_frames)
        return replace(self._found, status=status, reason=reason)

    def _read_header(self, container: Any, stream: Any) -> None:
        context = stream.codec_context
        self._found = Outcome(status=Status.NO_FRAME)
        if context is None:
            raise ValueError("no decoder for its codec")
        # Decoder threads gain nothing when worker processes fill the cores.
        context.thread_count, stream.thread_type = 1, "NONE"
        fps = float(stream.average_rate or 0)
        expected = stream.frames or round(_duration(container, stream) * fps)
        self._found = replace(
            self._found,
            frames_expected=expected,
            width=context.width,
            height=context.height,
            fps=fps,
            codec=stream.codec.canonical_name,
        )

    def _upright_frames(self, container: Any, stream: Any) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        clock = _Clock(1 / (self._found.fps or FALLBACK_FPS))
        grid = _Grid(self._max_fps)
        rotation = 0
        # One a video: a new scaling context for every frame doubles the cost of the conversion.
        reformatter = VideoReformatter()
        try:
            for frame in self._decoded(container, stream):
                seconds = clock.tick(frame.time)
                if self._found.frames_decoded == 1:
                    rotation = _quarter_turns(frame.rotation) * 90
                    self._found = replace(self._found, rotation=rotation)
                if grid.takes(seconds):
                    pixels = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
                    self._found = replace(self._found, frames=self._found.frames + 1)
                    yield seconds, np.ascontiguousarray(np.rot90(pixels, rotation // 90))
        finally:
            self._found = replace(self._found, seconds=clock.end)
            if not stream.frames and (duration := _duration(container, stream)):
                # By time, since the rate of a header without a count is itself an estimate.
                missing = max(0.0, duration - clock.end) * self._found.fps
                self._found = replace(
                    self._found, frames_expected=self._found.frames_decoded + round(missing)
                )

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """Frames in the decoder's order, which is display order even where the times are not."""
        for packet in container.demux(stream):
            if packet.is_discard and stream.frames:
                # An edit list hides this packet: a trimmed clip is whole without it.
                self._found = replace(self._found, frames_expected=self._found.frames_expected - 1)
            for frame in packet.decode():
                self._found = replace(self._found, frames_decoded=self._found.frames_decoded + 1)
                yield frame

    def _verdict(self, min_frames: int) -> tuple[Status, str]:
        if not self._opened:
            return _why_closed(self._path, self._error)
        found = self._found
        if found.status is Status.NO_STREAM:
            return Status.NO_STREAM, self._error or "it holds no moving picture"
        if not found.frames:
            return Status.NO_FRAME, self._error or "it opens, but the decoder finds no frame"
        count = f"{found.frames_decoded} of {found.frames_expected or 'an unknown number of'} frames"
        if self._error:
            count += f", then a decode error: {self._error}"
        if found.frames < min_frames:
            return Status.TOO_SHORT, f"{found.frames} kept ({count}), decode.min_frames is {min_frames}"
        if self._error or _lacks_frames(found):
            return Status.TRUNCATED, count
        return Status.OK, ""


class _Clock:
    """Presentation times made to start at 0 and to advance at every frame."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._first: float | None = None
        self._last = 0.0
        self.end = 0.0

    def tick(self, time: float | None) -> float:
        """Seconds since the first frame; a time that is absent or does not advance follows at the average rate."""
        if self._first is None:
            self._first = time or 0.0
        elif time is not None and time - self._first > self._last:
            self._last = time - self._first
        else:
            self._last += self._interval
        self.end = self._last + self._interval
        return self._last


class _Grid:
    """Thinning by time: the first frame of each interval of 1 / max_fps seconds is taken."""

    def __init__(self, max_fps: float | None) -> None:
        self._max_fps = max_fps
        self._last = -1

    def takes(self, seconds: float) -> bool:
        if self._max_fps is None:
            return True
        slot = math.floor(seconds * self._max_fps + EARLY)
        taken = slot > self._last
        self._last = max(slot, self._last)
        return taken


def _duration(container: Any, stream: Any) -> float:
    """Seconds that the header promises, 0 if unknown; beside sound the container's length is not the picture's."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base if len(container.streams) == 1 else 0.0


def _quarter_turns(degrees: float) -> int:
    """Turns of 90 degrees counter-clockwise; a broken display matrix gives a meaningless number, taken as none."""
    return round(degrees / 90) % 4 if abs(degrees) <= 360 else 0


def _lacks_frames(found: Outcome) -> bool:
    missing = found.frames_expected - found.frames_decoded
    return missing > max(UNCOUNTED_FRAMES, UNCOUNTED_SHARE * found.frames_expected)


def _why_closed(path: Path, error: str) -> tuple[Status, str]:
    """Why a path could not be opened as a video."""
    try:
        if not path.exists():
            return Status.MISSING, "no such file"
        if not path.is_file():
            return Status.UNREADABLE, "a directory or device, not a file"
        with path.open("rb") as file:
            return Status.UNREADABLE, _why_not_video(file.read(512), error)
    except OSError as problem:
        return Status.UNREADABLE, _plain(problem)


def _why_not_video(start: bytes, error: str) -> str:
    """The plainest name for a file that starts with these bytes."""
    if not start:
        return "an empty file"
    if start.startswith(b"version https://git-lfs"):
        return "a text file (a Git LFS pointer): fetch the video with `git lfs pull`"
    if all(byte in b"\t\n\r" or byte >= ord(" ") for byte in start):
        return f"a text file: {error}"
    return error


def _plain(error: BaseException) -> str:
    """One line without the file's path: the manifest must not depend on where the videos lie."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
