"""Optimiser, learning-rate schedule and weight averaging, all timm's."""

import difflib
import inspect
from typing import Any

from timm.optim import create_optimizer_v2, get_optimizer_class, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim import Optimizer

from vtn.model.vtn import VTN
from vtn.sections import TrainConfig


def build_optimizer(model: VTN, train: TrainConfig) -> Optimizer:
    """The optimiser named by `train.optimizer`, weight decay on matrices only.

    Raises ValueError for a name that timm does not know, and for one whose package is not installed.
    """
    _check_name(train.optimizer)
    try:
        optimizer: Optimizer = create_optimizer_v2(
            _groups(model, train),
            opt=train.optimizer,
            lr=train.learning_rate,
            weight_decay=train.weight_decay,
            **_one_kernel(train.optimizer),
        )
    except (ValueError, AssertionError) as error:
        raise ValueError(
            f"train.optimizer: {train.optimizer!r} cannot be used ({error}); choose another, for example adamw"
        ) from None
    return optimizer


def build_schedule(optimizer: Optimizer, train: TrainConfig, *, updates_per_epoch: int) -> Scheduler:
    """The schedule named by `train.schedule`, stepped by optimiser updates."""
    # A constant schedule is a stepwise one whose step lies beyond the last epoch.
    milestones = [*train.decay_epochs] if train.schedule == "step" else [train.epochs + 1]
    # timm decays at the last update before a milestone; half an update later is the first one after it.
    late = 0.5 / updates_per_epoch
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched="cosine" if train.schedule == "cosine" else "multistep",
        num_epochs=train.epochs,
        decay_milestones=[epoch + late for epoch in milestones],
        decay_rate=train.decay_rate,
        warmup_epochs=0 if train.schedule == "constant" else train.warmup_epochs,
        warmup_lr=train.learning_rate * 1e-2,
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    return schedule


def build_average(model: nn.Module, train: TrainConfig) -> ModelEmaV3 | None:
    """An exponential moving average of the weights, where `train.ema_decay` asks for one."""
    return None if train.ema_decay is None else ModelEmaV3(model, decay=train.ema_decay)


def _one_kernel(name: str) -> dict[str, bool]:
    """PyTorch's own optimisers update all parameters of a group in one kernel where they are asked to.

    With small models that is a quarter of a step's time (docs/LOG.md, 2026-11-24).
    """
    kind = get_optimizer_class(name.lower().removeprefix("lookahead_"), bind_defaults=False)
    return {"fused": True} if "fused" in inspect.signature(kind).parameters else {}


def _check_name(name: str) -> None:
    known = list_optimizers()
    plain = name.lower().removeprefix("lookahead_")  # timm wraps any of its own in this one
    if plain not in known:
        near = difflib.get_close_matches(plain, known, n=3, cutoff=0.4) or ["adamw", "sgd"]
        raise ValueError(f"train.optimizer: {name!r} is no timm optimiser; did you mean {' or '.join(near)}?")


def _groups(model: VTN, train: TrainConfig) -> list[dict[str, Any]]:
    """Parameters by part (backbone or new) and by kind (matrix or vector)."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": train.weight_decay if matrix else 0.0,
            "lr_scale": train.backbone_rate_scale if backbone else 1.0,
        }
        for (backbone, matrix), parameters in sorted(groups.items())
    ]
