"""Load params.yaml: override by dotted key, check against the sections, explain every problem."""

import difflib
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from vtn.rules import cross_field_problems
from vtn.sections import Params

PARAMS_FILE = Path("params.yaml")


def load(path: Path = PARAMS_FILE, overrides: Iterable[str] = ()) -> Params:
    """Read params.yaml, apply dotted overrides (`train.epochs=3`) and check everything.

    Raises ValueError that lists every problem at once.
    """
    if not path.is_file():
        raise ValueError(f"{path} not found: run from the repository's root, or name the file with --params")
    tree = read_yaml(path) or {}
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds {type(tree).__name__}, not sections: see the README's example")
    return parse(override(tree, dict(parse_assignment(text) for text in overrides)))


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; ValueError names the file where it is not UTF-8 or not YAML."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one section, as YAML and DVC do; PyYAML takes the last."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := [key for place, key in enumerate(keys) if key.value in {k.value for k in keys[:place]}]:
            raise yaml.MarkedYAMLError(
                problem=f"the key {twice[0].value} stands twice", problem_mark=twice[0].start_mark
            )
        return node


def parse(tree: Mapping[str, Any]) -> Params:
    """Validate a plain tree of sections; raises ValueError with all problems, one a line."""
    try:
        params = Params.model_validate(tree)
    except ValidationError as error:
        raise _report([_explain(problem) for problem in error.errors()]) from None
    if problems := list(cross_field_problems(params)):
        raise _report(problems)
    return params


def with_overrides(params: Params, overrides: Mapping[str, Any]) -> Params:
    """A copy of `params` with dotted keys replaced, checked anew."""
    return parse(override(params.model_dump(mode="json"), overrides))


def for_ablation(params: Params, *, asked: Collection[str] = ()) -> Params:
    """A copy of `params` with the recipe of ablation rows; ValueError names its keys as they are written.

    So it does where one of the training's own keys was `asked` for, which would change nothing.
    """
    recipe = params.ablate.model_dump(include={"epochs", "batch_size", "learning_rate"})
    if idle := [key for key in recipe if f"train.{key}" in asked]:
        raise ValueError(f"-S train.{idle[0]}: rows of ablations follow ablate.{idle[0]}; override that")
    try:
        return with_overrides(params, {f"train.{key}": value for key, value in recipe.items()})
    except ValueError as error:
        text = str(error)
        for key in recipe:
            text = text.replace(f"train.{key}:", f"ablate.{key}:")
        raise ValueError(text) from None


def check_tables(params: Params, directory: Path) -> None:
    """Raises ValueError for a name in ablate.tables that has no file in `directory`, where tables lie."""
    files = directory.rglob("*.yaml")
    known = sorted(path.relative_to(directory).with_suffix("").as_posix() for path in files)
    for name in params.ablate.tables:
        if name not in known:
            raise ValueError(f"ablate.tables: {directory}/{name}.yaml not found; {suggest(name, known)}")


def suggest(name: str, known: Sequence[str]) -> str:
    """The remedy for an unknown name: the known one that looks most like it, or else all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known) or 'none'}"


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split `train.epochs=3` into its key and its YAML value."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"override {text!r} is not KEY=VALUE, for example train.epochs=3")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(
            f"override {text!r}: the value is not YAML: {' '.join(str(error).split())}"
        ) from None


def override(tree: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `tree` in which every dotted key of `overrides` has its new value."""
    result = {
        key: override(value, {}) if isinstance(value, Mapping) else value for key, value in tree.items()
    }
    for dotted, value in overrides.items():
        *parents, leaf = dotted.split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{dotted}: {parent} is a value, not a section; {_nearest(dotted)}")
        node[leaf] = value
    return result


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one level of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:  # an empty one is a value
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def known_keys(section: type[BaseModel] = Params, prefix: str = "") -> list[str]:
    """Every dotted key that params.yaml may hold, sections included."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += known_keys(field.annotation, f"{prefix}{name}.")
    return keys


def _nearest(key: str) -> str:
    """The remedy for an unknown key: the known key that looks most like it."""
    parent, _, leaf = key.rpartition(".")
    siblings = [known for known in known_keys() if known.rpartition(".")[0] == parent]
    leaves = {known.rpartition(".")[2]: known for known in siblings}
    close = [leaves[name] for name in difflib.get_close_matches(leaf, leaves, n=1)]
    close = close or difflib.get_close_matches(key, known_keys(), n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(siblings or known_keys())}"


def _explain(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_nearest(key)}"
    return f"{_user_key(problem['loc']) or key}: {problem['input']!r} is refused: {problem['msg'].lower()}"


def _user_key(loc: tuple[Any, ...]) -> str:
    """The key as the user wrote it: pydantic also names the member of a union that failed."""
    node: Any = Params
    parts = []
    for part in loc:
        fields = getattr(node, "model_fields", None)
        if fields is None or part not in fields:
            break
        parts.append(str(part))
        node = fields[part].annotation
        if get_origin(node) in (Union, types.UnionType, tuple) or get_args(node):
            break
    return ".".join(parts)


def _report(problems: list[str]) -> ValueError:
    unique = list(dict.fromkeys(problems))
    return ValueError("\n".join([f"params: {len(unique)} problem(s)", *(f"  {line}" for line in unique)]))
