"""One shard of the frame store: the JPEG bytes of some videos, and the index that says where they lie.

    shard-007.bin      JPEG after JPEG, videos in the order of their names
    shard-007.parquet  a row a frame (SCHEMA), and in its metadata the shard's `Header`

A frame's bytes end where those of the next frame begin, the last frame's at the end of the file.
The index is renamed into place last: where it lies, the shard is whole.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

# Raise it whenever the files change their meaning: older stores are then decoded anew.
LAYOUT = 1
# frame: its number within the stored video; seconds: since the video's first frame; offset: in bytes.
SCHEMA = pa.schema(
    [
        ("video", pa.dictionary(pa.int32(), pa.string())),
        ("frame", pa.int32()),
        ("seconds", pa.float64()),
        ("offset", pa.int64()),
    ]
)
REBUILD = "run `dvc repro --force decode`"
_HEADER = b"vtn.shard"


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a whole shard says of itself.

    `videos` holds a record a video, rejected ones (0 frames) included, sorted by name: `video`, the `sha256` of
    its file, and the fields of its Outcome. `digest` is a hash over names, times and JPEG bytes, `size` the
    length of the JPEG bytes.
    """

    layout: int = LAYOUT
    recipe: dict[str, Any]
    videos: list[dict[str, Any]]
    digest: str
    size: int

    def rows(self) -> dict[str, tuple[int, int]]:
        """The first row of each video in the index, and the row after its last."""
        spans, start = {}, 0
        for record in self.videos:
            spans[record["video"]] = (start, start + record["frames"])
            start += record["frames"]
        return spans


class Shard:
    """A whole shard, open for reading: `header`, `seconds` (F,) and the bytes of each of its F frames."""

    def __init__(self, header: Header, pixels: Path, table: pa.Table) -> None:
        self.header = header
        self.seconds: NDArray[np.float64] = table["seconds"].to_numpy()
        # One entry more than frames: frame i lies at offsets[i]:offsets[i + 1].
        self._offsets: NDArray[np.int64] = np.append(table["offset"].to_numpy(), header.size)
        self._bytes = np.memmap(pixels, mode="r") if header.size else np.empty(0, np.uint8)

    @classmethod
    def open(cls, store: Path, number: int) -> Self:
        """Open shard `number`; raises ValueError where it is absent, of another layout or incomplete."""
        pixels, index = paths(store, number)
        for path in (index, pixels):
            if not path.is_file():
                raise ValueError(f"frame store {store} lacks {path.name}: {REBUILD}")
        try:
            with pq.ParquetFile(index) as file:
                header = _checked_header(file.schema_arrow, index)
                table = file.read(columns=["seconds", "offset"])
        except pa.ArrowException:
            raise ValueError(f"{index} is damaged: {REBUILD}") from None
        if pixels.stat().st_size != header.size:
            raise ValueError(f"{pixels} has {pixels.stat().st_size} bytes, not {header.size}: {REBUILD}")
        return cls(header, pixels, table)

    def jpeg(self, row: int) -> NDArray[np.uint8]:
        """The JPEG bytes of the frame in one row of the index."""
        return self._bytes[self._offsets[row] : self._offsets[row + 1]]


class ShardWriter:
    """Writes a shard beside its final place; `publish` renames it there, leaving without it removes it."""

    def __init__(self, store: Path, number: int) -> None:
        self._final = paths(store, number)
        self._partial = tuple(path.with_name(path.name + ".partial") for path in self._final)
        self._rows: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        self._digest = sha256()
        self._size = 0

    def __enter__(self) -> Self:
        self._file = self._partial[0].open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        finally:
            for path in self._partial:
                path.unlink(missing_ok=True)

    def add(self, video: str, frames: Iterable[tuple[float, bytes]]) -> int:
        """Append the (seconds, JPEG bytes) of one video and return how many there were."""
        number = -1
        for number, (seconds, jpeg) in enumerate(frames):
            for name, value in zip(SCHEMA.names, (video, number, seconds, self._size), strict=True):
                self._rows[name].append(value)
            self._digest.update(f"{video}\n{number} {seconds!r} {len(jpeg)}\n".encode())
            self._digest.update(jpeg)
            self._file.write(jpeg)
            self._size += len(jpeg)
        return number + 1

    def publish(self, *, recipe: dict[str, Any], videos: list[dict[str, Any]]) -> Header:
        """Put the finished shard in its place; `videos` are the records of its header."""
        header = Header(recipe=recipe, videos=videos, digest=self._digest.hexdigest(), size=self._size)
        metadata = {_HEADER: json.dumps(asdict(header), sort_keys=True)}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(self._rows, schema=SCHEMA.with_metadata(metadata)), sink)
        self._partial[1].write_bytes(sink.getvalue().to_pybytes())
        self._file.flush()
        os.fsync(self._file.fileno())
        # The old index must go before the bytes change under it, the new one come after them.
        self._final[1].unlink(missing_ok=True)
        for partial, final in zip(self._partial, self._final, strict=True):
            partial.replace(final)
        return header


def paths(store: Path, number: int) -> tuple[Path, Path]:
    """The JPEG bytes and the index of shard `number`."""
    return store / f"shard-{number:03d}.bin", store / f"shard-{number:03d}.parquet"


def _checked_header(schema: pa.Schema, index: Path) -> Header:
    try:
        header = Header(**json.loads((schema.metadata or {})[_HEADER]))
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{index} is no index of a frame store: {REBUILD}") from None
    if header.layout != LAYOUT:
        raise ValueError(f"{index} has layout {header.layout}, this version reads {LAYOUT}: {REBUILD}")
    for field in SCHEMA:
        if field.name not in schema.names or schema.field(field.name).type != field.type:
            raise ValueError(f"{index} lacks the column {field.name} ({field.type}): {REBUILD}")
    return header


def stored(shard: Shard, rows: tuple[int, int]) -> Iterator[tuple[float, bytes]]:
    """(seconds, JPEG bytes) of the frames from the first of `rows` up to, not including, the second."""
    for row in range(*rows):
        yield float(shard.seconds[row]), shard.jpeg(row).tobytes()
