"""What imports what in a checkout, read from its source: nothing is executed."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CODE = ("vtn", "pipelines", "sweeps", "benchmarks")


@dataclass(frozen=True)
class Import:
    """One imported name, `vtn.data.clips.Sample` for `from vtn.data.clips import Sample`."""

    file: str
    line: int
    name: str
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


def sources(root: Path) -> list[str]:
    """All modules of the project, tests excepted, as paths relative to `root`."""
    return sorted(
        path.relative_to(root).as_posix() for folder in CODE for path in (root / folder).rglob("*.py")
    )


def all_imports(root: Path) -> Iterator[Import]:
    """Every import of every module, those inside functions included."""
    for file in sources(root):
        yield from imports(root, file)


def imports(root: Path, file: str) -> list[Import]:
    """The imports of one module, relative ones made absolute."""
    tree = ast.parse((root / file).read_text(encoding="utf-8"))
    typing_only = {node for block in ast.walk(tree) if _is_for_typing(block) for node in ast.walk(block)}
    return [
        Import(file, node.lineno, name, node in typing_only)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in _names(node, package=Path(file).parent.parts)
    ]


def module_file(root: Path, name: str) -> str | None:
    """The file of the project that `name`, or the module it is taken from, stands in."""
    parts = name.split(".")
    if parts[0] not in CODE:
        return None
    for length in range(len(parts), 0, -1):
        stem = "/".join(parts[:length])
        for file in (f"{stem}.py", f"{stem}/__init__.py"):
            if (root / file).is_file():
                return file
    return None


def reached(root: Path, start: str) -> dict[str, str]:
    """All files that running `start` may import, each with the file that imports it first."""
    found = {start: start}
    queue = [start]
    while queue:
        file = queue.pop()
        runtime = (item.name for item in imports(root, file) if not item.typing_only)
        targets = [target for name in runtime if (target := module_file(root, name))]
        for target in [*targets, *_packages(root, [file, *targets])]:
            if target not in found:
                found[target] = file
                queue.append(target)
    return found


def _packages(root: Path, files: Iterable[str]) -> Iterator[str]:
    """The __init__.py of every folder above `files`: importing a module runs them."""
    for file in files:
        for folder in Path(file).parents:
            if (root / folder / "__init__.py").is_file():
                yield (folder / "__init__.py").as_posix()


def _is_for_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _names(node: ast.Import | ast.ImportFrom, *, package: tuple[str, ...]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    above = package[: len(package) - node.level + 1] if node.level else ()
    origin = [*above, *([node.module] if node.module else [])]
    return [".".join([*origin, alias.name]) for alias in node.names]
