"""Presets: params of known models, from files and from the rows of the paper's tables."""

import difflib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError, field_validator

from vtn import config, params_text, study
from vtn.sections import Params, Section

FILES = Path("presets")
TABLES = Path("pipelines/ablations/paper")


class Preset(Section):
    """One file of `presets/`: dotted overrides of params.yaml, and what they are for."""

    summary: str
    set: dict[str, Any]

    @field_validator("set")
    @classmethod
    def _spares_the_data(cls, overrides: dict[str, Any]) -> dict[str, Any]:
        if any(key.split(".")[0] == "dataset" for key in overrides):
            raise ValueError("a preset describes a model and its recipe; dataset is the user's")
        return overrides


@dataclass(frozen=True)
class Change:
    """One value of params.yaml that a preset replaced."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: {params_text.inline(self.old)} -> {params_text.inline(self.new)}"


def known() -> dict[str, Preset]:
    """Every preset by name; a row of several tables is one preset."""
    files = {path.stem: _read(path) for path in sorted(FILES.glob("*.yaml"))}
    if not files:
        raise ValueError(f"no presets in {FILES}: run from the repository's root")
    rows = {
        row.name: _of_row(table, row, files)
        for table in tables()
        for row in table.rows
        if row.name not in files
    }
    return files | rows


def tables() -> list[study.Study]:
    """The paper's tables, T1 first."""
    found = [study.load(path.stem, TABLES) for path in TABLES.glob("*.yaml")]
    return sorted(found, key=lambda table: table.title)


def find(name: str) -> Preset:
    """The preset of that name; ValueError gives the nearest names."""
    presets = known()
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=3, cutoff=0.4)
        remedy = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(presets)}"
        raise ValueError(f"no preset {name!r}; {remedy}")
    return presets[name]


def use(name: str, path: Path = config.PARAMS_FILE) -> list[Change]:
    """Write a preset into params.yaml and return what changed; comments, order and layout stay.

    Raises ValueError, and leaves the file as it was, where the whole would not be valid params.
    """
    overrides = config.flatten(find(name).set)
    before = config.load(path)
    text = path.read_bytes().decode()
    # Written are the differences alone: a value that says the same in another way stays.
    after = config.with_overrides(before, overrides)
    changes = [Change(key, _value(before, key), _value(after, key)) for key in overrides]
    changes = [change for change in changes if change.new != change.old]
    try:
        changed = params_text.rewrite(text, {change.key: change.new for change in changes})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    _publish(path.resolve(), changed)
    return changes


def _value(params: Params, key: str) -> Any:
    """What a dotted key holds, a section too; None where there is no such key."""
    found: Any = params.model_dump(mode="json")
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _publish(path: Path, text: str) -> None:
    """Replace the file at once, so that a kill leaves the old or the new one."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(text.encode())
    shutil.copymode(path, partial)
    partial.replace(path)


def _read(path: Path) -> Preset:
    try:
        return Preset.model_validate(config.read_yaml(path))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg'].lower()}" for item in error.errors()]
        raise ValueError(f"{path}: {'; '.join(problems)}") from None


def _of_row(table: study.Study, row: study.Row, files: Mapping[str, Preset]) -> Preset:
    """A row as a preset: the table's preset and base, then the row's own changes."""
    if table.preset is None or table.preset not in files:
        raise ValueError(f"table {table.title!r}: preset {table.preset!r} is not one of {', '.join(files)}")
    own = {**table.base, **row.set}
    changes = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in own.items())
    return Preset(summary=f"{table.title}: {changes}", set={**files[table.preset].set, **own})
