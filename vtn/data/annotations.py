"""The table of labelled videos: read, check, divide into splits, write."""

import difflib
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ("video", "label", "split", "group")
REQUIRED = ("video", "label")
SPLITS = ("train", "val", "test")


def read(path: Path) -> pd.DataFrame:
    """The table in a csv or parquet file, all four columns as text, what is absent as "".

    Raises ValueError for a file that cannot be read, lacks a column or holds no video.
    """
    if not path.is_file():
        raise ValueError(
            f"annotations {path} not found: give a csv or parquet file with {', '.join(COLUMNS)}"
        )
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ValueError(
            f"annotations {path}: {path.suffix or 'no'} extension; save them as .csv or .parquet"
        )
    try:
        frame = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"annotations {path} are not UTF-8 ({error.reason}); save them as UTF-8") from None
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"annotations {path} cannot be read: {reason}") from None
    _require_columns(frame, path)
    if frame.empty:
        raise ValueError(f"annotations {path} list no video: add a row a video")
    return complete(frame)


def _read_csv(path: Path) -> pd.DataFrame:
    with warnings.catch_warnings(category=pd.errors.ParserWarning, action="error"):
        try:
            # Labels such as 001, NA and null are names, neither numbers nor gaps; no column is an index.
            return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
        except pd.errors.ParserWarning:
            raise ValueError(
                "rows have more cells than the first line; quote names that hold a comma, drop commas at line ends"
            ) from None


def complete(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy with exactly COLUMNS, all text; a missing column or cell becomes ""."""
    columns = {
        name: frame[name].astype(object).where(frame[name].notna(), "").astype("str")
        if name in frame
        else pd.Series("", frame.index, dtype="str")
        for name in COLUMNS
    }
    columns |= {name: columns[name].str.strip() for name in ("label", "split", "group")}
    return pd.DataFrame(columns).reset_index(drop=True)


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a csv sorted by video, so that equal tables are equal bytes; never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    complete(frame).sort_values("video").to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")
    partial.replace(path)


def class_names(frame: pd.DataFrame) -> list[str]:
    """The labels of the training split in the order of the model's outputs."""
    return sorted(frame.loc[frame["split"] == "train", "label"].unique())


def check(frame: pd.DataFrame) -> None:
    """Raises ValueError with every reason why no model can be trained on this table."""
    problems = _broken_names(frame)
    if (unnamed := (frame["video"].str.strip() == "").sum()) > 0:
        problems.append(f"video: empty in {unnamed} row(s); name the file")
    if (twice := frame["video"].duplicated()).any():
        problems.append(f"video: listed more than once: {_some(frame['video'][twice])}; keep one row each")
    if (blank := frame["label"].str.strip() == "").any():
        problems.append(f"label: empty for {_some(frame['video'][blank])}; name the class or drop the row")
    if (strange := ~frame["split"].isin(SPLITS)).any():
        values = ", ".join(map(repr, sorted(frame["split"][strange].unique())[:3]))
        problems.append(
            f"split: {values} for {_some(frame['video'][strange])} is none of {', '.join(SPLITS)}; "
            "correct it or leave it empty"
        )
    labels = sorted(frame.loc[~blank, "label"].unique())
    if len(labels) == 1:
        problems.append(f"label: {labels[0]!r} is the only class; at least two are needed")
    known = set(class_names(frame))
    for label in [label for label in labels if label not in known]:
        videos = frame["video"][frame["label"] == label]
        problems.append(f"label: {label!r} has no training video, only {_some(videos)}; move or add some")
    problems += _parted_groups(frame)
    if problems:
        raise ValueError(
            "\n".join([f"annotations: {len(problems)} problem(s)", *(f"  {p}" for p in problems)])
        )


def _broken_names(frame: pd.DataFrame) -> list[str]:
    """The problems of names with line ends and the like, which would break a line of a table or a message."""
    odd = {
        column: [name for name in frame[column] if any(unicodedata.category(mark) == "Cc" for mark in name)]
        for column in REQUIRED
    }
    return [
        f"{column}: {names[0]!r} holds control characters; rename it"
        for column, names in odd.items()
        if names
    ]


def _parted_groups(frame: pd.DataFrame) -> list[str]:
    """The problem of groups with videos in several splits, where there are any."""
    counts = frame[frame["group"] != ""].groupby("group")["split"].nunique()
    parted = pd.Series(counts[counts > 1].index)
    return (
        [f"group: {_some(parted)} lies in several splits; give its videos one split"] if len(parted) else []
    )


def assign_splits(frame: pd.DataFrame, *, val_share: float, test_share: float, seed: int) -> pd.DataFrame:
    """A copy in which every row has a split.

    A row without one follows its group where that has one. A split that no row names is filled with its
    share of the rows without a split, or of the training rows where all have one; the others train.
    Groups stay whole, labels keep their proportions, and no label loses its last training video (a split
    then stays smaller than asked, or empty). The same videos and seed give the same splits, and one more
    video moves few others.
    """
    frame = complete(frame)
    unit = ("group " + frame["group"]).where(frame["group"] != "", "video " + frame["video"])
    named = frame[frame["split"] != ""].assign(unit=unit).sort_values("video").drop_duplicates("unit")
    follows = unit.map(named.set_index("unit")["split"]).fillna("")
    split = frame["split"].where(frame["split"] != "", follows)
    rest = 1.0
    for name, share in (("test", test_share), ("val", val_share)):
        if share == 0 or (split == name).any():
            continue
        pool = split == ("" if (split == "").any() else "train")
        training = Counter(frame["label"][split.isin(["", "train"])])
        units = defaultdict(list)
        for key, label in zip(unit[pool], frame["label"][pool], strict=True):
            units[key].append(label)
        chosen = _choose(units, training, share=share / rest, salt=f"{seed} {name}")
        split = split.mask(pool & unit.isin(chosen), name)
        rest -= share
    return frame.assign(split=split.where(split != "", "train"))


def _choose(units: dict[str, list[str]], training: Counter[str], *, share: float, salt: str) -> list[str]:
    """Units (groups, given as the labels of their videos) that make up `share` of every label's videos.

    Greedy: take the unit that brings the counts nearest to the shares wanted, by label and in total.
    scikit-learn's StratifiedGroupKFold offers only shares 1/k and may take a label's last video.
    """
    if not units:
        return []
    kinds: dict[tuple[str, ...], list[str]] = defaultdict(list)  # units of the same labels are exchangeable
    for unit in sorted(units, key=lambda unit: _rank(salt, unit), reverse=True):
        kinds[tuple(sorted(units[unit]))].append(unit)
    order = sorted(kinds, key=lambda kind: _rank(salt, " ".join(kind)))
    labels = sorted({label for kind in order for label in kind})
    counts = np.array([[kind.count(label) for label in labels] for kind in order], dtype=float)
    left = np.array([len(kinds[kind]) for kind in order])
    spare = np.array([training[label] - 1 for label in labels])
    gap = share * (left @ counts)
    total = counts.sum(axis=1)
    square = (counts**2).sum(axis=1) + total**2
    chosen: list[str] = []
    while True:
        allowed = (left > 0) & (counts <= spare).all(axis=1)
        if not allowed.any():
            return chosen
        change = square - 2 * (counts @ gap + total * gap.sum())
        change = np.where(allowed, change.round(6), np.inf)  # rounded: ties must not hang on the last bit
        best = int(change.argmin())
        if change[best] >= 0 and chosen:
            return chosen
        chosen.append(kinds[order[best]].pop())
        left[best] -= 1
        spare = spare - counts[best]
        gap = gap - counts[best]


def _rank(salt: str, name: str) -> str:
    return sha256(f"{salt} {name}".encode()).hexdigest()


def _require_columns(frame: pd.DataFrame, path: Path) -> None:
    found = [str(name) for name in frame.columns]
    if len(found) == 1 and (mark := next((mark for mark in ";\t|" if mark in found[0]), None)):
        raise ValueError(f"annotations {path}: the columns are parted by {mark!r}; save them with commas")
    if twice := [name for name in COLUMNS if f"{name}.1" in found]:  # as pandas calls the second one
        raise ValueError(f"annotations {path}: column {twice[0]!r} is there twice; keep one")
    spelt = {name.strip().casefold(): name for name in found if name not in COLUMNS}
    for name in COLUMNS:
        if name in found:
            continue
        close = difflib.get_close_matches(name, spelt, n=1, cutoff=0.5 if name in REQUIRED else 0.8)
        remedy = f"rename {spelt[close[0]]!r}" if close else f"found: {', '.join(found) or 'none'}"
        if close or name in REQUIRED:
            raise ValueError(f"annotations {path}: column {name!r} is missing; {remedy}")


def _some(videos: Iterable[str], limit: int = 3) -> str:
    names = list(videos)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
