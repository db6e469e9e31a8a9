"""Checkpoints in the authors' file format: FILE.pyth, a torch file of epoch, model_state and cfg (yaml text)."""

import hashlib
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

# As a third party recorded it: the authors publish none.
KNOWN = {"VTN_VIT_B_KINETICS.pyth": "779682d33e7afc32c3eff910e151eab30e7aed375acf7743cfe3041a83dcbf3a"}
# All that a checkpoint of the release holds in whole numbers: BatchNorm's counts, and an index of old versions.
WHOLE_NUMBERS = ("num_batches_tracked", "position_ids")
LONGEST_NAME = 200
# How files of torch begin: zip since 1.6, before that a pickled number.
ZIPPED, LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\x0a"


@dataclass(frozen=True)
class ReleaseFile:
    """What FILE.pyth holds: `state` by the release's names, `cfg` as a tree ({} where there is none to read)."""

    path: Path
    sha256: str
    state: dict[str, Tensor]
    cfg: dict[str, Any]

    @property
    def recognised(self) -> str | None:
        """The name of the published file with these bytes."""
        return next((name for name, sha256 in KNOWN.items() if sha256 == self.sha256), None)

    @property
    def is_impostor(self) -> bool:
        """Whether it has the name of a published file, but other bytes."""
        return KNOWN.get(self.path.name, self.sha256) != self.sha256

    def said(self, section: str, key: str) -> Any:
        """A value of the cfg; None where it says nothing."""
        values = self.cfg.get(section)
        return values.get(key) if isinstance(values, dict) else None


def read(path: Path) -> ReleaseFile:
    """Read a checkpoint without running anything in it; ValueError, in one line, where it is none."""
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "not found"
        raise ValueError(f"{path} {what}; give the path of a .pyth file of the release")
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols: the answer below is plainer
            content = torch.load(path, weights_only=True, map_location="cpu")
        if zipfile.is_zipfile(path) and (member := zipfile.ZipFile(path).testzip()):  # torch checks no sums
            raise zipfile.BadZipFile(member)
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{path} {_refusal(path, error)}") from None
    state = content.get("model_state") if isinstance(content, dict) else None
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise ValueError(
            f"{path} has no model_state of tensors ({_outline(content)}); the release's files keep their weights there"
        )
    if odd := [name for name in state if not name.isprintable() or len(name) > LONGEST_NAME]:
        raise ValueError(f"{path} is no checkpoint of a VTN: no tensor is called {odd[0][:40]!a}")
    state = {name: _number(path, name, tensor) for name, tensor in state.items()}
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ReleaseFile(path, sha256, state, _tree(content.get("cfg")))


def write(path: Path, state: Mapping[str, Tensor], cfg: Mapping[str, Any]) -> None:
    """Write FILE.pyth aside, then put it in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
    try:
        with partial.open("wb") as file:  # torch opens files in a way that hides why it cannot
            torch.save(
                {"epoch": 0, "model_state": tensors, "cfg": yaml.safe_dump(dict(cfg), sort_keys=False)}, file
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _number(path: Path, name: str, tensor: Tensor) -> Tensor:
    """Weights in float32, whatever they were saved in; ValueError for what no weight can be."""
    if tensor.dtype == torch.int64 and name.endswith(WHOLE_NUMBERS):
        return tensor
    if tensor.layout != torch.strided or tensor.is_quantized or not tensor.is_floating_point():
        kind = tensor.dtype if tensor.layout == torch.strided else tensor.layout
        raise ValueError(f"{path} is no checkpoint of a VTN: {name} is {kind}, not a plain tensor of weights")
    # Repeated views and tensors without storage say they hold more than the file does.
    if tensor.is_meta or tensor.nbytes > tensor.untyped_storage().nbytes():
        raise ValueError(f"{path} is no checkpoint of a VTN: {name} has no numbers of its own in the file")
    numbers = tensor.float()
    if not bool(numbers.isfinite().all()):
        raise ValueError(f"{path} is damaged: {name} holds numbers that are not finite; fetch it again")
    return numbers


def _refusal(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and _may_run(start, named is not None):
        what = f" ({named[1]})" if named else ""
        return (
            f"holds more than tensors{what}: reading such a pickle could run code, so it is refused; "
            "take a file that holds tensors, numbers and text alone"
        )
    if start in (ZIPPED, LEGACY):
        broken = "cut short" if start == LEGACY or not zipfile.is_zipfile(path) else "damaged"
        return f"is {broken}: {path.stat().st_size} bytes are not a whole checkpoint; fetch it again"
    return "is no checkpoint of torch; give a .pyth file of the release"


def _may_run(start: bytes, names_global: bool) -> bool:
    """Whether a refused pickle is one at all, rather than text or a file cut short."""
    return names_global if start in (ZIPPED, LEGACY) else start[:1] == b"\x80"


def _outline(content: Any) -> str:
    if not isinstance(content, dict):
        return f"it holds {type(content).__name__}"
    names = [ascii(name)[1:-1][:40] if isinstance(name, str) else type(name).__name__ for name in content]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"it holds {', '.join(names[:4]) or 'nothing'}{more}"


def _tree(text: Any) -> dict[str, Any]:
    """The cfg as sections; what cannot be read says nothing, and whoever needs it says what is assumed."""
    try:
        tree = yaml.safe_load(text) if isinstance(text, str) else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}
