"""Change values in the text of params.yaml and nothing else: comments, order and layout stay."""

from collections.abc import Mapping
from typing import Any

import yaml
from yaml import MappingNode, Node, SequenceNode

from vtn import config

# The least that YAML and this project's layout want between a value and its comment.
COMMENT_GAP = 2


def rewrite(text: str, changes: Mapping[str, Any]) -> str:
    """`text` with every dotted key of `changes` set; a key that it lacks is added to its section.

    A comment behind a value keeps its column where the new value leaves room. Raises ValueError where the
    text is built so (anchors, for one) that changing these keys would change others.
    """
    wanted = config.override(yaml.safe_load(text) or {}, changes)
    changed = text
    try:
        for dotted, value in changes.items():
            changed = _set(changed, dotted.split("."), value)
        found = yaml.safe_load(changed)
    except yaml.YAMLError:  # a value that others point to is gone
        found = None
    if (found or {}) != wanted:
        raise ValueError(
            "the file's YAML repeats keys or shares values (&, *, <<); change these keys by hand"
        )
    return changed


def inline(value: Any) -> str:
    """A value as YAML on one line."""
    listed = yaml.safe_dump(
        [value], default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return listed.strip()[1:-1]


def _set(text: str, keys: list[str], value: Any) -> str:
    """`text` with one key set."""
    node = yaml.compose(text)
    for depth, key in enumerate(keys):
        children = {name.value: child for name, child in node.value} if isinstance(node, MappingNode) else {}
        if key not in children:
            for parent in reversed(keys[depth + 1 :]):
                value = {parent: value}
            return _add(text, node, f"{key}: {inline(value)}")
        node = children[key]
    assert node is not None
    return _replace(text, node, inline(value))


def _replace(text: str, node: Node, value: str) -> str:
    """Put `value` where `node` stands, and hold the column of a comment that follows."""
    start, end = node.start_mark.index, _end(node)
    end = start + len(text[start:end].rstrip())
    block = isinstance(node, MappingNode | SequenceNode) and not node.flow_style
    if block and (key := text[:start].rstrip()).endswith(":"):  # rather than a comment
        start = len(key)
    if block or start == end:  # lines of their own, or nothing, behind the colon
        value = f" {value}"
    line, newline, below = text[end:].partition("\n")
    if line.lstrip().startswith("#"):
        gap = len(line) - len(line.lstrip()) + (end - start) - len(value)
        line = " " * max(COMMENT_GAP, gap) + line.lstrip()
    return text[:start] + value + line + newline + below


def _add(text: str, section: Node | None, entry: str) -> str:
    """Append `entry` to a section, in the section's own style; None is an empty file."""
    if not isinstance(section, MappingNode):
        return f"{text.rstrip()}\n{entry}\n".lstrip()
    if section.flow_style:
        place = section.end_mark.index - 1
        return text[:place] + (", " if section.value else "") + entry + text[place:]
    end = text.find("\n", _end(section))
    end = len(text) if end < 0 else end
    return f"{text[:end]}\n{' ' * section.start_mark.column}{entry}{text[end:]}"


def _end(node: Node) -> int:
    """Where a node's text ends: the parser counts comments below a block to the block."""
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)
