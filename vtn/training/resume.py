"""The state of an unfinished training as one safetensors file, so that a kill costs minutes.

Tensors lie under `model.`, `average.` and `optimizer.<parameter>.`; everything else is JSON in
the file's metadata. One file, renamed into place, is either the old state or the new one.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and JSON facts to `path` atomically; ValueError, and the old file, where that fails."""
    partial = path.with_suffix(".partial")
    try:
        save_file(
            {name: tensor.detach().contiguous() for name, tensor in tensors.items()},
            partial,
            metadata={"facts": json.dumps(facts)},
        )
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free / 2**20
        raise ValueError(
            f"{path} cannot be written: {error} ({free:.0f} MB free); mend that and run the same command again, "
            "it goes on where the last state was saved"
        ) from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the facts that `save_tensors` wrote; ValueError where the file is gone or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            return tensors, json.loads(file.metadata()["facts"])
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{path} is gone or damaged ({error}); remove {path.parent} and run the same command again: "
            "this training then begins anew"
        ) from None


def save_state(
    path: Path,
    *,
    model: nn.Module,
    average: ModelEmaV3 | None,
    optimizer: Optimizer,
    progress: dict[str, Any],
) -> None:
    """Write all that the next step depends on."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in average.module.state_dict().items()}
    plain: dict[str, Any] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                plain[f"{index}.{name}"] = value
    # Some optimisers count their steps in the groups, as numbers or as tensors.
    groups = []
    for index, group in enumerate(optimizer.param_groups):
        groups.append({name: value for name, value in group.items() if isinstance(value, int | float)})
        counted = {name: value for name, value in group.items() if isinstance(value, Tensor)}
        tensors |= {f"groups.{index}.{name}": value for name, value in counted.items()}
    save_tensors(path, tensors, {"optimizer": plain, "groups": groups, "progress": progress})


def load_state(
    path: Path, *, model: nn.Module, average: ModelEmaV3 | None, optimizer: Optimizer
) -> dict[str, Any]:
    """Restore what `save_state` wrote; returns the progress."""
    tensors, facts = load_tensors(path)
    model.load_state_dict(_under("model.", tensors))
    if average is not None:
        average.module.load_state_dict(_under("average.", tensors))
    state: dict[int, dict[str, Any]] = {}
    for name, value in (_under("optimizer.", tensors) | facts["optimizer"]).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    groups = [
        {**group, **saved}
        for group, saved in zip(optimizer.state_dict()["param_groups"], facts["groups"], strict=True)
    ]
    for name, value in _under("groups.", tensors).items():
        index, _, key = name.partition(".")
        groups[int(index)][key] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    progress: dict[str, Any] = facts["progress"]
    return progress


def seed_step(seed: int, step: int) -> None:
    """Make all randomness of a step (dropout, augmentation) a function of the seed and its number."""
    torch.manual_seed((seed << 32) + step)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
