"""Decode annotated videos into the frame store, shard by shard, keeping what is already there.

A video belongs to shard sha256(name) mod decode.shards, and a shard's bytes follow from its videos and the
recipe alone: not from the workers, an interruption or the store's history.
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from os import cpu_count
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import simplejpeg

from vtn.data import decoding, manifest, pool
from vtn.data.frame_store import MANIFEST_FILE, STORE_FILE, fingerprint
from vtn.data.resizing import resize, stored_size
from vtn.data.shard import LAYOUT, Header, Shard, ShardWriter, paths, stored
from vtn.sections import DecodeConfig

REJECTED_FILE = "rejected.csv"
# Of a longer list of rejected videos the message shows this many; the file has them all.
SHOWN = 10
# What a stored frame depends on. The number of shards and max_rejected move or judge videos only.
RECIPE = ("short_side", "max_fps", "quality", "min_frames")


@dataclass(frozen=True)
class ShardJob:
    """The videos of one shard, sorted by name, and what is to be made of them."""

    store: Path
    number: int
    videos: Path
    members: tuple[str, ...]
    decode: DecodeConfig

    @property
    def recipe(self) -> dict[str, Any]:
        """The part of the configuration that decides a shard's bytes."""
        return self.decode.model_dump(include=set(RECIPE))


def pack(
    annotations: pd.DataFrame, videos: Path, store: Path, *, decode: DecodeConfig, workers: int | None
) -> pd.DataFrame:
    """Bring the frame store to the annotated videos (paths relative to `videos`); returns its manifest.

    `workers` processes: None takes one a core, 0 none. Unchanged videos are copied, not decoded; a killed
    call goes on where it stopped, and until it has ended `FrameStore.open` refuses the store. Raises ValueError
    if more videos are rejected than decode.max_rejected allows, or if the store cannot be written.
    """
    try:
        _retract(store, decode.shards)
        jobs = [
            ShardJob(store, number, videos, members, decode)
            for number, members in enumerate(_members(annotations["video"].tolist(), decode.shards))
        ]
        results = pool.run(pack_shard, jobs, workers=(cpu_count() or 1) if workers is None else workers)
        headers = [header for header, _ in results]
        decoded = sum(count for _, count in results)
        print(f"decoded {decoded}, reused {len(annotations) - decoded} of {len(annotations)} videos")
        rows = _manifest_rows(annotations, headers)
        _warn_of_leaks(rows)
        _refuse_rejects(rows, store, videos, decode.max_rejected)
        manifest.write(rows, store / MANIFEST_FILE)
        _declare_whole(store, headers, jobs[0].recipe)
        return manifest.read(store / MANIFEST_FILE)
    except OSError as error:
        raise ValueError(_cannot_write(store, error)) from None
    finally:
        _remove_partials(store)


def pack_shard(job: ShardJob, advance: Callable[[], None]) -> tuple[Header, int]:
    """Make one shard, or keep it where nothing changed; returns its header and how many videos were decoded."""
    cv2.setNumThreads(1)
    files = {video: _file_hash(job.videos / video) for video in job.members}
    old = _previous(job)
    known = {record["video"]: record for record in old.header.videos} if old else {}
    reusable = {video for video in job.members if _is_known(job, video, files[video], known.get(video))}
    if old and reusable == set(job.members) == set(known):
        for _ in job.members:
            advance()
        return old.header, 0
    spans = old.header.rows() if old else {}
    records = []
    with ShardWriter(job.store, job.number) as writer:
        for video in job.members:
            if old and video in reusable:
                writer.add(video, stored(old, spans[video]))
                records.append(known[video])
            else:
                records.append(_decode_into(writer, job, video, files[video]))
            advance()
        return writer.publish(recipe=job.recipe, videos=records), len(job.members) - len(reusable)


def _decode_into(writer: ShardWriter, job: ShardJob, video: str, file_hash: str) -> dict[str, Any]:
    """Decode one video, append its frames unless it is rejected, and return its record."""
    minimum = job.decode.min_frames
    pictures = decoding.decode(job.videos / video, max_fps=job.decode.max_fps)
    frames = _encoded(pictures, job.decode)
    first = list(islice(frames, minimum))
    # With so many frames it can only be whole or truncated, and both are accepted.
    count = writer.add(video, chain(first, frames)) if len(first) == minimum else 0
    outcome = asdict(pictures.outcome(min_frames=minimum))
    return {"video": video, "sha256": file_hash, **outcome, "frames": count}


def _encoded(pictures: decoding.Decoding, config: DecodeConfig) -> Iterator[tuple[float, bytes]]:
    size: tuple[int, int] | None = None
    for seconds, frame in pictures:
        # The first frame decides: a stream may change its size on the way, a stored video does not.
        size = size or stored_size(*frame.shape[:2], short_side=config.short_side)
        # 4:2:0, since nearly every video has no more colour than that.
        pixels = resize(frame, size)
        yield seconds, simplejpeg.encode_jpeg(pixels, quality=config.quality, colorsubsampling="420")


def _previous(job: ShardJob) -> Shard | None:
    """The shard as it lies there, if it is whole and of the same recipe."""
    try:
        shard = Shard.open(job.store, job.number)
    except ValueError:
        return None
    return shard if shard.header.recipe == job.recipe else None


def _is_known(job: ShardJob, video: str, file_hash: str, record: dict[str, Any] | None) -> bool:
    """Whether the old shard's record of a video still holds."""
    if record is None or record["sha256"] != file_hash:
        return False
    if file_hash:
        return True
    # Without a hash there is nothing to decode, only a reason, and that may have changed.
    absent = decoding.decode(job.videos / video)
    list(absent)
    return bool(absent.outcome().reason == record["reason"])


def _file_hash(path: Path) -> str:
    """The sha256 of a file's bytes, "" if they cannot be read."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _members(videos: Sequence[str], shards: int) -> list[tuple[str, ...]]:
    """The names that belong to each shard, sorted."""
    assert len(set(videos)) == len(videos), "annotations.check refuses a video listed twice"
    members: list[list[str]] = [[] for _ in range(shards)]
    for video in sorted(videos):
        members[int(hashlib.sha256(video.encode()).hexdigest(), 16) % shards].append(video)
    return [tuple(names) for names in members]


def _retract(store: Path, shards: int) -> None:
    """Take back the declaration that the store is whole, and what no shard of this store owns."""
    store.mkdir(parents=True, exist_ok=True)
    for name in (STORE_FILE, MANIFEST_FILE, REJECTED_FILE):
        (store / name).unlink(missing_ok=True)
    _remove_partials(store)
    owned = {path for number in range(shards) for path in paths(store, number)}
    for path in set(store.glob("shard-*")) - owned:
        path.unlink()


def _remove_partials(store: Path) -> None:
    for path in store.glob("*.partial"):
        path.unlink(missing_ok=True)


def _declare_whole(store: Path, headers: Sequence[Header], recipe: dict[str, Any]) -> None:
    description = {
        "layout": LAYOUT,
        "recipe": recipe,
        "shards": len(headers),
        "fingerprint": fingerprint([header.digest for header in headers]),
    }
    partial = store / f"{STORE_FILE}.partial"
    partial.write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")
    partial.replace(store / STORE_FILE)


def _manifest_rows(annotations: pd.DataFrame, headers: Sequence[Header]) -> pd.DataFrame:
    records = [
        record | {"shard": number} for number, header in enumerate(headers) for record in header.videos
    ]
    rows = annotations.merge(pd.DataFrame(records), on="video", validate="one_to_one")
    rows["accepted"] = [decoding.Status(status).accepted for status in rows["status"]]
    rows["reason"] = _with_duplicates(rows)
    return rows


def _with_duplicates(rows: pd.DataFrame) -> list[str]:
    """The reasons, with a note where an earlier name holds the same file."""
    first: dict[str, str] = {}
    reasons, notes = {}, []
    for video, file_hash, reason in sorted(zip(rows["video"], rows["sha256"], rows["reason"], strict=True)):
        original = first.setdefault(file_hash, video)
        if file_hash and original != video:
            notes.append(f"{video} is the same file as {original}")
            reason = "; ".join(filter(None, (reason, f"the same file as {original}")))
        reasons[video] = reason
    if notes:
        print(f"note: {len(notes)} video(s) repeat a file, see `reason` in the manifest; {notes[0]}")
    return [reasons[video] for video in rows["video"]]


def _warn_of_leaks(rows: pd.DataFrame) -> None:
    """Warn of files that lie, under several names, in several splits or under several labels."""
    usable = rows[rows["accepted"]].sort_values(["sha256", "video"])
    for column, harm in (
        ("split", "accuracy on them is memory; keep each in one split"),
        ("label", "one of them is wrong; keep the right one"),
    ):
        spread = usable[usable.groupby("sha256")[column].transform("nunique") > 1]
        if spread.empty:
            continue
        shown = [f"{video} ({value})" for video, value in zip(spread["video"], spread[column], strict=True)]
        more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
        count = spread["sha256"].nunique()
        print(f"warning: {count} file(s) with several {column}s, {harm}: {', '.join(shown[:SHOWN])}{more}")


def _refuse_rejects(rows: pd.DataFrame, store: Path, videos: Path, max_rejected: float) -> None:
    rejected = rows[~rows["accepted"]]
    if len(rejected) <= max_rejected * len(rows) and len(rejected) < len(rows):
        return
    manifest.write(rejected, store / REJECTED_FILE)
    if len(rejected) == len(rows):
        head = f"all {len(rows)} videos are rejected: are they below {videos}?"
    else:
        head = (
            f"{len(rejected)} of {len(rows)} videos are rejected, more than decode.max_rejected: {max_rejected:g} "
            "allows: mend or remove them, or raise decode.max_rejected"
        )
    lines = [f"  {row.video}: {row.status} ({row.reason})" for row in rejected.head(SHOWN).itertuples()]
    if len(rejected) > SHOWN:
        lines.append(f"  and {len(rejected) - SHOWN} more")
    raise ValueError("\n".join([f"{head} (list: {store / REJECTED_FILE})", *lines]))


def _cannot_write(store: Path, error: OSError) -> str:
    free = shutil.disk_usage(store if store.exists() else Path.cwd()).free / 2**20
    problem = "disk full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
    return (
        f"frame store {store} cannot be written: {problem} ({free:.0f} MB free); "
        "mend that and run the same command again, it goes on where it stopped"
    )
