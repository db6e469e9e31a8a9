import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from drawn_videos import annotations, write_video

from vtn.data import manifest
from vtn.data.frame_store import FrameStore
from vtn.data.packing import pack
from vtn.data.pool import run
from vtn.data.shard import ShardWriter
from vtn.sections import DecodeConfig

CONFIG = DecodeConfig(short_side=32, max_fps=25.0, shards=3, max_rejected=0.5)
NAMES = [f"class {number % 2}/-clip 'é' {number}.mp4" for number in range(12)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(NAMES):
        write_video(folder / name, frames=8 + number, fps=(25, 30)[number % 2], shade=number)
    return folder


def content(store: Path) -> dict[str, str]:
    """The sha256 of every file of a store."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(store.iterdir())}


def packed(
    names, videos: Path, store: Path, *, workers: int = 0, config: DecodeConfig = CONFIG
) -> pd.DataFrame:
    return pack(annotations(*names), videos, store, decode=config, workers=workers)


@pytest.fixture(scope="module")
def undisturbed(videos, tmp_path_factory) -> dict[str, str]:
    store = tmp_path_factory.mktemp("undisturbed") / "frames"
    packed(NAMES, videos, store)
    return content(store)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_store_does_not_depend_on_the_workers(videos, undisturbed, tmp_path, workers):
    packed(reversed(NAMES), videos, tmp_path, workers=workers)
    assert content(tmp_path) == undisturbed


def test_a_new_clip_decodes_that_clip_only_and_gives_the_store_made_from_scratch(
    videos, undisturbed, tmp_path, capsys
):
    packed(NAMES[:-1], videos, tmp_path)
    assert "decoded 11, reused 0 of 11 videos" in capsys.readouterr().out
    packed(NAMES, videos, tmp_path)
    assert "decoded 1, reused 11 of 12 videos" in capsys.readouterr().out
    assert content(tmp_path) == undisturbed


def test_with_nothing_changed_nothing_is_decoded_nor_rewritten(videos, tmp_path, capsys):
    packed([*NAMES, "absent.mp4"], videos, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    packed([*NAMES, "absent.mp4"], videos, tmp_path)
    assert "decoded 0, reused 13 of 13 videos" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")} == before


def test_a_removed_a_changed_and_a_found_video_are_noticed(tmp_path, capsys):
    write_video(tmp_path / "a.mp4", frames=8)
    write_video(tmp_path / "b.mp4", frames=8)
    packed(["a.mp4", "b.mp4", "late.mp4"], tmp_path, tmp_path / "frames")
    write_video(tmp_path / "b.mp4", frames=9)
    write_video(tmp_path / "late.mp4", frames=10)
    rows = packed(["b.mp4", "late.mp4"], tmp_path, tmp_path / "frames")
    assert "decoded 2, reused 0" in capsys.readouterr().out
    assert rows[["video", "frames"]].to_numpy().tolist() == [["b.mp4", 9], ["late.mp4", 10]]
    (tmp_path / "late.mp4").unlink()
    (tmp_path / "late.mp4").mkdir()
    rows = packed(["b.mp4", "late.mp4"], tmp_path, tmp_path / "frames")
    assert rows["status"].tolist() == ["ok", "unreadable"]
    (tmp_path / "late.mp4").rmdir()
    rows = packed(["b.mp4", "late.mp4"], tmp_path, tmp_path / "frames")
    assert rows["status"].tolist() == ["ok", "missing file"]


@pytest.mark.parametrize(
    "change", [{"short_side": 16}, {"quality": 50}, {"max_fps": 10.0}, {"min_frames": 5}]
)
def test_another_recipe_decodes_anew(videos, tmp_path, capsys, change):
    packed(NAMES[:3], videos, tmp_path)
    packed(NAMES[:3], videos, tmp_path, config=CONFIG.model_copy(update=change))
    assert "decoded 3, reused 0 of 3 videos" in capsys.readouterr().out.splitlines()[-1]


def test_fewer_shards_leave_no_stale_file(videos, undisturbed, tmp_path):
    packed(NAMES, videos, tmp_path, config=CONFIG.model_copy(update={"shards": 7}))
    packed(NAMES, videos, tmp_path)
    assert content(tmp_path) == undisturbed


def test_labels_change_the_manifest_but_no_shard(videos, undisturbed, tmp_path, capsys):
    packed(NAMES, videos, tmp_path)
    relabelled = annotations(*NAMES).assign(label="jump", split="val")
    rows = pack(relabelled, videos, tmp_path, decode=CONFIG, workers=0)
    assert "decoded 0" in capsys.readouterr().out.splitlines()[-1]
    assert set(rows["label"]) == {"jump"}
    assert {k: v for k, v in content(tmp_path).items() if k != "manifest.csv"} == {
        k: v for k, v in undisturbed.items() if k != "manifest.csv"
    }


PROGRAM = """
import sys
from pathlib import Path
import pandas as pd
from vtn.data.packing import pack
from vtn.sections import DecodeConfig

if __name__ == "__main__":
    table = pd.read_csv(sys.argv[1], dtype=str, keep_default_na=False)
    config = DecodeConfig.model_validate_json(sys.argv[4])
    pack(table, Path(sys.argv[2]), Path(sys.argv[3]), decode=config, workers=int(sys.argv[5]))
"""


def start_packing(names, videos: Path, store: Path, *, workers: int, **options) -> subprocess.Popen:
    program, table = store.parent / "program.py", store.parent / "annotations.csv"
    program.write_text(PROGRAM)
    annotations(*names).to_csv(table, index=False)
    arguments = [str(table), str(videos), str(store), CONFIG.model_dump_json(), str(workers)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, str(program), *arguments], env=environment, **options)


@pytest.fixture(scope="module")
def long_videos(tmp_path_factory) -> tuple[Path, list[str]]:
    """Enough work that a kill finds some of it done and some not."""
    folder = tmp_path_factory.mktemp("long")
    names = [f"{number}.mp4" for number in range(12)]
    for number, name in enumerate(names):
        write_video(folder / name, frames=40, height=192, width=256, shade=number)
    return folder, names


def processes_in(group: int) -> list[str]:
    listing = subprocess.run(["ps", "-eo", "pgid,pid,stat"], capture_output=True, text=True).stdout
    rows = [line.split() for line in listing.splitlines()[1:]]
    return [pid for pgid, pid, state in rows if int(pgid) == group and not state.startswith("Z")]


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_in_the_middle_the_same_call_ends_with_the_same_store(long_videos, tmp_path, workers):
    videos, names = long_videos
    packed(names, videos, tmp_path / "whole")
    store = tmp_path / "killed"
    process = start_packing(names, videos, store, workers=workers, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(store.glob("shard-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()  # SIGKILL, and to the parent alone
    process.wait()
    assert not (store / "store.json").exists()
    with pytest.raises(ValueError, match="not whole"):
        FrameStore.open(store)
    while processes_in(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not processes_in(process.pid), "a worker outlived its parent"
    packed(names, videos, store)
    assert content(store) == content(tmp_path / "whole")


def test_a_store_is_refused_while_its_shards_change(videos, tmp_path):
    packed(NAMES, videos, tmp_path)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardWriter, "publish", interrupted)
        packed(NAMES[:5], videos, tmp_path)
    with pytest.raises(ValueError, match="not whole"):
        FrameStore.open(tmp_path)
    assert not list(tmp_path.glob("*.partial"))


def test_killed_between_the_two_renames_no_index_describes_other_bytes(tmp_path):
    rename = Path.replace

    def killed_before_the_index(path, target):
        if target.suffix == ".parquet":
            raise KeyboardInterrupt
        return rename(path, target)

    one_shard = CONFIG.model_copy(update={"shards": 1})
    for number, name in enumerate(("a.mp4", "b.mp4", "c.mp4")):
        write_video(tmp_path / name, frames=8, shade=number)
    packed(["a.mp4", "b.mp4", "c.mp4"], tmp_path, tmp_path / "frames", config=one_shard)
    # The same bytes in another order: their size alone would not give an old index away.
    (tmp_path / "a.mp4").rename(tmp_path / "z.mp4")
    names = ["b.mp4", "c.mp4", "z.mp4"]
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", killed_before_the_index)
        packed(names, tmp_path, tmp_path / "frames", config=one_shard)
    packed(names, tmp_path, tmp_path / "frames", config=one_shard)
    packed(names, tmp_path, tmp_path / "scratch", config=one_shard)
    assert content(tmp_path / "frames") == content(tmp_path / "scratch")


def test_a_size_limit_or_a_full_disk_is_one_line_and_leaves_nothing_half_written(long_videos, tmp_path):
    videos, names = long_videos
    store = tmp_path / "frames"
    process = start_packing(
        names,
        videos,
        store,
        workers=2,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    _, errors = process.communicate(timeout=60)
    message = errors.strip().splitlines()[-1]
    assert process.returncode != 0
    assert message.startswith(f"ValueError: frame store {store} cannot be written: File too large")
    assert "goes on where it stopped" in message
    assert not list(store.glob("*.partial")) and not (store / "store.json").exists()


def test_a_full_disk_says_how_much_is_free(videos, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ShardWriter, "add", full)
    with pytest.raises(ValueError, match=r"cannot be written: disk full \(\d+ MB free\)"):
        packed(NAMES, videos, tmp_path)
    assert not list(tmp_path.glob("*.partial"))


class OneVideo:
    def __init__(self, name: str) -> None:
        self.members = (name,)


def crash(job: OneVideo, advance) -> None:
    if job.members == ("bad.mp4",):
        os.kill(os.getpid(), signal.SIGKILL)
    advance()


def test_a_crash_of_the_decoder_names_the_video():
    with pytest.raises(ValueError, match=r"killed .* at work on bad\.mp4: the same command"):
        run(crash, [OneVideo("a.mp4"), OneVideo("bad.mp4"), OneVideo("c.mp4")], workers=1)


def test_the_manifest_has_every_video_with_its_reason(tmp_path, capsys):
    write_video(tmp_path / "a.mp4", frames=5)
    (tmp_path / "b.mp4").write_bytes(b"")
    write_video(tmp_path / "c.mp4", frames=1)
    (tmp_path / "copy.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    table = annotations("a.mp4", "b.mp4", "c.mp4", "copy.mp4", "NA").assign(
        label=["null", "1", "01", "x", "y"]
    )
    config = CONFIG.model_copy(update={"max_rejected": 0.8})
    rows = pack(table, tmp_path, tmp_path / "frames", decode=config, workers=0).set_index("video")
    assert rows["label"].to_dict() == dict(zip(table["video"], table["label"], strict=True))
    assert rows["status"].to_dict() == {
        "NA": "missing file",
        "a.mp4": "ok",
        "b.mp4": "unreadable",
        "c.mp4": "too short",
        "copy.mp4": "ok",
    }
    assert rows["accepted"].tolist() == [False, True, False, False, True]
    assert rows["frames"].to_dict() == {"NA": 0, "a.mp4": 5, "b.mp4": 0, "c.mp4": 0, "copy.mp4": 5}
    assert rows.loc["copy.mp4", "reason"] == "the same file as a.mp4"
    assert "copy.mp4 is the same file as a.mp4" in capsys.readouterr().out
    assert rows.loc["a.mp4", ["width", "height", "fps", "codec"]].tolist() == [64, 48, 25.0, "h264"]
    assert (rows[["reason"]] == "").sum().item() == 1


def test_the_same_file_in_two_splits_or_under_two_labels_is_a_warning_that_names_both(tmp_path, capsys):
    names = ["a.mp4", "b.mp4", "copy of a.mp4", "copy of b.mp4", "other.mp4"]
    for number, name in enumerate(names):
        write_video(tmp_path / name, frames=5, shade=number)
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / f"copy of {name}").write_bytes((tmp_path / name).read_bytes())
    table = annotations(*names).assign(label="x", split="train")
    plain = pack(table, tmp_path, tmp_path / "frames", decode=CONFIG, workers=0)
    assert "warning" not in capsys.readouterr().out
    table["split"] = ["train", "train", "test", "train", "val"]
    table["label"] = ["x", "x", "x", "y", "y"]
    rows = pack(table, tmp_path, tmp_path / "frames", decode=CONFIG, workers=0)
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert [line.partition(": ")[2].partition(": ")[2] for line in warnings] == [
        "a.mp4 (train), copy of a.mp4 (test)",
        "b.mp4 (x), copy of b.mp4 (y)",
    ]
    assert "1 file(s) with several splits" in warnings[0] and "several labels" in warnings[1]
    assert rows["reason"].tolist() == plain["reason"].tolist()


def test_every_odd_file_is_in_the_manifest(shared, tmp_path):
    folder = shared / "media/odd"
    names = sorted(path.name for path in folder.iterdir() if path.name != "expected.csv")
    config = DecodeConfig(short_side=16, max_fps=25.0, min_frames=1, shards=2, max_rejected=0.4)
    rows = pack(annotations(*names), folder, tmp_path, decode=config, workers=2)
    assert rows["video"].tolist() == names
    assert rows["status"].value_counts().to_dict() == {
        "ok": 19,
        "unreadable": 4,
        "truncated": 4,
        "no frame": 4,
        "no video stream": 2,
    }
    store = FrameStore.open(tmp_path)
    for video in rows[rows["accepted"]]["video"]:
        assert min(store.read(video, [0]).shape[1:3]) == 16, video


def test_too_many_rejects_stop_with_the_list_and_leave_no_whole_store(tmp_path):
    write_video(tmp_path / "a.mp4", frames=5)
    names = ["a.mp4", *(f"absent{number:02d}.mp4" for number in range(12))]
    with pytest.raises(ValueError) as error:
        packed(names, tmp_path, tmp_path / "frames")
    message = str(error.value)
    assert message.startswith("12 of 13 videos are rejected, more than decode.max_rejected: 0.5 allows")
    assert "absent09.mp4: missing file (no such file)" in message and "absent10" not in message
    assert message.endswith("and 2 more")
    with pytest.raises(ValueError, match="not whole"):
        FrameStore.open(tmp_path / "frames")
    assert len(manifest.read(tmp_path / "frames/rejected.csv")) == 12
    packed(names[:2], tmp_path, tmp_path / "frames")
    assert not (tmp_path / "frames/rejected.csv").exists()


def test_a_share_of_rejects_that_is_allowed_passes(tmp_path):
    write_video(tmp_path / "a.mp4", frames=5)
    assert packed(["a.mp4", "absent.mp4"], tmp_path, tmp_path / "frames")["accepted"].tolist() == [
        True,
        False,
    ]


def test_all_rejected_names_the_folder(tmp_path):
    with pytest.raises(ValueError, match=f"all 2 videos are rejected: are they below {tmp_path}"):
        packed(["x.mp4", "y.mp4"], tmp_path, tmp_path / "frames")


def test_a_shard_spoilt_from_outside_is_made_anew(videos, undisturbed, tmp_path):
    packed(NAMES, videos, tmp_path)
    (tmp_path / "shard-000.parquet").write_bytes(b"junk")
    (tmp_path / "shard-001.bin").write_bytes(b"short")
    packed(NAMES, videos, tmp_path)
    assert content(tmp_path) == undisturbed
