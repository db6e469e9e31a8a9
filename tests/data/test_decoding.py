import csv
import os
from pathlib import Path

import av
import numpy as np
import pytest
from drawn_videos import picture, write_video

from vtn.data.decoding import Outcome, Status, decode
from vtn.data.resizing import resize, stored_size

ODD = Path(__file__).parents[3] / "shared/media/odd"
EXPECTED = list(csv.DictReader((ODD / "expected.csv").open())) if ODD.is_dir() else []
# What the words of expected.csv begin with, and the status that they ask for.
STATUS_OF = {
    "no video stream": Status.NO_STREAM,
    "cannot be opened": Status.UNREADABLE,
    "text file": Status.UNREADABLE,
    "opens, but no frame decodes": Status.NO_FRAME,
    "decode error after": Status.TRUNCATED,
    "damaged in the middle": Status.TRUNCATED,
    "cut at 60 %": Status.TRUNCATED,
    "index missing, all frames decode": Status.OK,
    "decodes": Status.OK,
}


def outcome_of(path: Path, *, min_frames: int = 1, max_fps: float | None = None) -> Outcome:
    decoding = decode(path, max_fps=max_fps)
    for _ in decoding:
        pass
    return decoding.outcome(min_frames=min_frames)


def times(path: Path, *, max_fps: float | None = None) -> list[float]:
    return [seconds for seconds, _ in decode(path, max_fps=max_fps)]


@pytest.mark.parametrize("row", EXPECTED, ids=[row["file"] for row in EXPECTED])
def test_every_odd_file_gets_its_expected_outcome(row):
    decoding = decode(ODD / row["file"])
    frames = list(decoding)
    outcome = decoding.outcome(min_frames=1)
    wanted = next(status for words, status in STATUS_OF.items() if row["outcome"].startswith(words))
    assert outcome.status is wanted, outcome
    assert len(frames) == outcome.frames == outcome.frames_decoded == int(row["frames_decodable"] or 0)
    if int(row["frames_in_header"] or 0):
        assert outcome.frames_expected == int(row["frames_in_header"])
    if row["width"]:
        assert (outcome.width, outcome.height) == (int(row["width"]), int(row["height"]))
    if row["rotation_deg"]:
        degrees = int(row["rotation_deg"])
        assert outcome.rotation == (degrees % 360 if abs(degrees) <= 360 else 0)
    if frames and row["width"]:
        coded = int(row["height"]), int(row["width"])
        upright = coded[::-1] if outcome.rotation in (90, 270) else coded
        assert frames[0][1].shape == (*upright, 3)
    assert np.all(np.diff([seconds for seconds, _ in frames]) > 0)
    assert bool(outcome.reason) == (wanted is not Status.OK)


def test_a_cut_avi_is_found_truncated_although_no_error_is_raised(shared):
    outcome = outcome_of(shared / "media/odd/weizmann_daria_walk_cut60.avi")
    assert outcome.status.accepted
    assert outcome.reason == "49 of 84 frames"


def test_a_git_lfs_pointer_is_called_by_its_name(shared):
    assert "git lfs pull" in outcome_of(shared / "media/odd/lfs_pointer.mp4").reason


def test_frames_are_rgb_and_keep_their_order(tmp_path):
    frames = [frame for _, frame in decode(write_video(tmp_path / "a.mp4"))]
    for number, frame in enumerate(frames):
        # The compression is lossy, but blue and red would differ by far more.
        assert np.abs(frame.astype(int) - picture(number)).mean() < 8, number


def test_a_rotated_video_comes_out_upright(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    upright = next(iter(decode(path)))[1]
    data = bytearray(path.read_bytes())
    # The display matrix of the track header: 16.16 numbers, here identity -> a turn of 90 degrees clockwise.
    identity = b"".join(v.to_bytes(4, "big") for v in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
    turned = b"".join(v.to_bytes(4, "big") for v in (0, 0x10000, 0, 2**32 - 0x10000, 0, 0, 0, 0, 0x40000000))
    place = data.index(identity, data.index(b"tkhd"))
    data[place : place + len(turned)] = turned
    rotated = tmp_path / "rotated.mp4"
    rotated.write_bytes(data)
    decoding = decode(rotated)
    frame = next(iter(decoding))[1]
    assert decoding.outcome().rotation == 270
    assert np.array_equal(frame, np.rot90(upright, -1))


@pytest.mark.parametrize(("fps", "max_fps", "kept"), [(25, 25, 20), (50, 25, 10), (30, 25, 17), (10, 25, 20)])
def test_thinning_keeps_at_most_max_fps_and_no_frame_twice(tmp_path, fps, max_fps, kept):
    path = write_video(tmp_path / "a.mp4", fps=fps)
    thinned = times(path, max_fps=max_fps)
    assert len(thinned) == kept
    assert set(thinned) <= set(times(path))
    assert len(set(thinned)) == len(thinned)


def test_thinning_is_even_where_the_rate_is_a_multiple(tmp_path):
    thinned = times(write_video(tmp_path / "a.mp4", fps=50), max_fps=25)
    assert np.allclose(np.diff(thinned), 0.04)


def test_milliseconds_of_webm_lose_no_frame_at_the_videos_own_rate(shared):
    path = shared / "media/odd/transparent_alpha.webm"
    assert len(times(path, max_fps=30)) == 150


def test_min_frames_counts_what_is_kept(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=4, fps=50)
    assert outcome_of(path, min_frames=4).status is Status.OK
    short = outcome_of(path, min_frames=3, max_fps=25)
    assert (short.status, short.frames, short.frames_decoded) == (Status.TOO_SHORT, 2, 4)
    assert "decode.min_frames is 3" in short.reason


def test_a_trimmed_clip_is_whole_without_the_frames_its_edit_list_hides(tmp_path):
    source, trimmed = write_video(tmp_path / "a.mp4", frames=40), tmp_path / "trimmed.mp4"
    with av.open(str(source)) as reader, av.open(str(trimmed), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        for packet in reader.demux(stream):
            if packet.dts is not None:
                # Times before zero are cut off by an edit list, as a trim without re-encoding does.
                packet.pts -= round(0.8 / stream.time_base)
                packet.dts -= round(0.8 / stream.time_base)
                packet.stream = copy
                writer.mux(packet)
    with av.open(str(trimmed)) as container:
        in_header = container.streams.video[0].frames
    outcome = outcome_of(trimmed)
    assert outcome.status is Status.OK, outcome
    assert in_header == 40 and outcome.frames == outcome.frames_expected == 20


@pytest.mark.parametrize(
    "content", [b"", b"hello\n" * 200, b"\x89PNG\r\n\x1a\n junk", b"\0" * 5000, b"#EXTM3U\n"]
)
def test_what_is_no_video_is_an_outcome(tmp_path, content):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    outcome = outcome_of(path)
    assert not outcome.status.accepted and outcome.reason
    assert str(tmp_path) not in outcome.reason


def test_a_picture_named_as_a_video_is_too_short(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "x.png"), picture(0))
    (tmp_path / "x.png").rename(tmp_path / "x.mp4")
    assert outcome_of(tmp_path / "x.mp4", min_frames=2).status is Status.TOO_SHORT


def test_directories_pipes_and_absent_files_are_outcomes(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nowhere")
    assert outcome_of(tmp_path / "folder.mp4").status is Status.UNREADABLE
    assert outcome_of(tmp_path / "pipe.mp4").status is Status.UNREADABLE
    assert outcome_of(tmp_path / "dangling.mp4").status is Status.MISSING
    assert outcome_of(tmp_path / "absent.mp4").status is Status.MISSING
    assert outcome_of(tmp_path / ("long" * 100)).status is Status.UNREADABLE


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_an_outcome(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    path.chmod(0)
    assert outcome_of(path).reason == "Permission denied"


def test_names_that_look_like_options_or_protocols_decode(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("-a.mp4", "concat:b.mp4", "c d'[é]%03d.mp4"):
        write_video(tmp_path / "plain.mp4").rename(tmp_path / name)
        assert outcome_of(Path(name)).status is Status.OK, name


@pytest.mark.parametrize(
    ("size", "stored"),
    [((256, 340), (64, 85)), ((50, 50), (64, 64)), ((1, 1), (64, 64)), ((2, 2000), (64, 256))],
)
def test_the_short_side_is_exact_and_the_long_side_bounded(size, stored):
    assert stored_size(*size, short_side=64) == stored
    assert resize(np.zeros((*size, 3), np.uint8), stored).shape == (*stored, 3)
