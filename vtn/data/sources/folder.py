"""The user's own videos: a folder with one sub-folder a class, or with an annotations file."""

import os
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath

import pandas as pd

from vtn.data import annotations as tables

ANNOTATION_FILES = ("annotations.csv", "annotations.parquet")
EXTENSIONS = (
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264", ".hevc", ".m2ts"),
    *(".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogg"),
    *(".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
)
LAYOUTS = (
    "either one sub-folder a class (FOLDER/walk/a.mp4, FOLDER/run/b.mp4), or FOLDER/annotations.csv with "
    "the columns video,label and optionally split,group"
)


def list_folder(folder: Path, annotations: Path | None = None) -> pd.DataFrame:
    """The annotations of the videos in `folder`; splits and groups only where a file gives them.

    `annotations` or a file annotations.csv or .parquet in the folder wins over sub-folders. An annotated
    video that does not exist stays in the table, for decoding to report. Raises ValueError otherwise
    wherever a video would go missing unsaid.
    """
    check(folder)
    if annotations is None:
        found = [folder / name for name in ANNOTATION_FILES if (folder / name).is_file()]
        if len(found) > 1:
            raise ValueError(f"dataset.folder: {folder} holds {' and '.join(ANNOTATION_FILES)}; keep one")
        annotations = found[0] if found else None
    elif not annotations.is_file():
        raise ValueError(f"dataset.annotations: {annotations} not found; correct the path or set it to null")
    return _from_sub_folders(folder) if annotations is None else _from_file(folder, annotations)


def check(folder: Path) -> None:
    """Raise ValueError unless there is such a folder."""
    if not folder.is_dir():
        raise ValueError(f"dataset.folder: {folder} is not a folder; name the one that holds your videos")


def is_video(path: Path) -> bool:
    """Whether the name is that of a video: a known extension, and no `._` twin that macOS leaves behind."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith("._")


def _from_file(folder: Path, annotations: Path) -> pd.DataFrame:
    frame = tables.read(annotations)
    if not annotations.resolve().is_relative_to(folder.resolve()):
        print(
            f"note: {annotations} lies outside {folder}, where `dvc repro` does not see it change; "
            "after an edit run `dvc repro --force download`, or move it into the folder"
        )
    if refused := [name for name in frame["video"] if _leaves_folder(name)]:
        raise ValueError(
            f"annotations {annotations}: video {refused[0]!r} ({len(refused)} in all) leaves the folder; "
            "write paths relative to dataset.folder, without '..'"
        )
    videos = [_on_disk(folder, name) for name in frame["video"]]
    if not any((folder / video).is_file() for video in videos):
        raise ValueError(
            f"dataset.folder: {folder} holds none of the {len(videos)} videos of {annotations}, for example "
            f"{videos[0]!r}; paths are relative to dataset.folder"
        )
    return frame.assign(video=videos)


def _leaves_folder(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _on_disk(folder: Path, name: str) -> str:
    """The name as the disk spells it: macOS writes accents as separate marks, most tables do not."""
    if not name:
        return name
    plain = PurePosixPath(name).as_posix()  # ./a.mp4 and a.mp4 are one video
    spellings = (plain, unicodedata.normalize("NFC", plain), unicodedata.normalize("NFD", plain))
    return next((spelling for spelling in spellings if (folder / spelling).exists()), plain)


def _from_sub_folders(folder: Path) -> pd.DataFrame:
    entries = sorted(entry for entry in folder.iterdir() if _is_shown(entry))
    for entry in entries:
        _refuse_dead_link(entry)
    classes = [entry for entry in entries if entry.is_dir()]
    stray = [entry.name for entry in entries if entry.is_file() and is_video(entry)]
    if not classes:
        holds = f"{len(stray)} videos but no labels" if stray else "no videos"
        raise ValueError(f"dataset.folder: {folder} holds {holds}; arrange {LAYOUTS}")
    if stray:
        raise ValueError(
            f"dataset.folder: {folder} holds {len(stray)} video(s) outside its class folders, for example "
            f"{stray[0]!r}; move them into one, or arrange {LAYOUTS}"
        )
    files = {entry: _files(folder, entry) for entry in classes}
    rows = [(video, entry.name) for entry in classes for video in _videos(entry, files[entry])]
    if len(classes) == 1:
        raise ValueError(f"dataset.folder: {folder} holds one class only, {classes[0].name!r}; add another")
    _tell_left_out(folder, [path for paths in files.values() for path in paths if not is_video(path)])
    return pd.DataFrame(rows, columns=["video", "label"])


def _is_shown(entry: Path) -> bool:
    """Hidden files and folders are the system's, as is the folder that macOS adds to archives."""
    return not entry.name.startswith(".") and entry.name != "__MACOSX"


def _files(folder: Path, class_folder: Path) -> list[Path]:
    """Files anywhere below a class folder, relative to `folder`, sorted."""
    found = []
    for parent, _, names in os.walk(class_folder, onerror=_refuse, followlinks=True):
        if Path(parent).is_symlink():
            raise ValueError(
                f"dataset.folder: {parent} is a link to a folder, in which DVC would see no change; put the folder "
                "itself there, or link its videos one by one"
            )
        found += [Path(parent, name).relative_to(folder) for name in names]
    return sorted(found)


def _videos(class_folder: Path, files: list[Path]) -> list[str]:
    """The videos among the files of a class, as POSIX paths, sorted."""
    found = [path.as_posix() for path in files if is_video(path)]
    if not found:
        raise ValueError(
            f"dataset.folder: {class_folder} holds no video; add some or remove it (known extensions: "
            f"{' '.join(EXTENSIONS)})"
        )
    for name in found:
        _refuse_dead_link(class_folder.parent / name)
        if any("\udc80" <= character <= "\udcff" for character in name):  # how Python reads foreign bytes
            raise ValueError(f"dataset.folder: the file name {os.fsencode(name)!r} is not UTF-8; rename it")
    return sorted(found)


def _refuse_dead_link(path: Path) -> None:
    if not path.exists():
        raise ValueError(f"dataset.folder: {path} is a link to nothing; mend or remove it")


def _tell_left_out(folder: Path, files: list[Path]) -> None:
    """Print how many files are no videos by their names, and of which kinds; hidden ones are the system's."""
    files = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    if files:
        kinds = Counter(path.suffix.lower() or "no extension" for path in files)
        counts = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
        print(
            f"{folder}: left out {len(files)} file(s) that are no videos: {counts}, for example {str(files[0])!r}"
        )


def _refuse(error: OSError) -> None:
    raise error
