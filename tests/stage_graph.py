"""The stages of a dvc.yaml: the module each runs, what it depends on, what it makes."""

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = re.compile(r"\$\{[^}]*\}")


@dataclass(frozen=True)
class Stage:
    """One stage; templated (`matrix`, `foreach`) ones count once, `${...}` reads `*` in their paths."""

    name: str
    modules: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...]

    def covers(self, file: str) -> bool:
        """Whether a change of `file` makes the stage run again."""
        return any(_within(file, dep) for dep in self.deps if "*" not in dep)


def stages(root: Path) -> list[Stage]:
    """The stages of `root`/dvc.yaml."""
    text = (root / "dvc.yaml").read_text(encoding="utf-8")
    described: dict[str, Any] = yaml.safe_load(text)["stages"]
    return [_stage(name, body.get("do", body)) for name, body in described.items()]


def unknown_dependencies(root: Path, known: list[Stage]) -> list[str]:
    """Dependencies that neither lie in the repository nor come out of a stage."""
    outs = [out for stage in known for out in stage.outs]
    return [
        f"dvc.yaml: stage {stage.name} depends on {dep}, which no stage makes and the repository lacks"
        for stage in known
        for dep in stage.deps
        if "*" not in dep and not (root / dep).exists() and not any(_within(dep, out) for out in outs)
    ]


def _stage(name: str, body: dict[str, Any]) -> Stage:
    commands = body["cmd"] if isinstance(body["cmd"], list) else [body["cmd"]]
    return Stage(
        name,
        tuple(module for text in commands for module in re.findall(r"python -m (pipelines\.\w+)", text)),
        _paths(body, "deps"),
        _paths(body, "outs", "metrics", "plots"),
        tuple(_param_keys(body.get("params", []))),
    )


def _paths(body: dict[str, Any], *sections: str) -> tuple[str, ...]:
    """Paths of a stage's lists; an entry with options is a mapping from its path to them."""
    entries = [entry for section in sections for entry in body.get(section, [])]
    paths = [path for entry in entries for path in ([entry] if isinstance(entry, str) else entry)]
    return tuple(TEMPLATE.sub("*", path).rstrip("/") for path in paths)


def _param_keys(entries: list[Any]) -> list[str]:
    """Keys of params.yaml; a mapping lists those of a named file."""
    keys: list[str] = []
    for entry in entries:
        keys += [entry] if isinstance(entry, str) else entry.get("params.yaml") or []
    return [key for key in keys if not TEMPLATE.search(key)]


def _within(path: str, pattern: str) -> bool:
    return fnmatch(path, pattern) or fnmatch(path, f"{pattern}/*")
