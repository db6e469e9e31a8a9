"""Which device this machine computes on."""

import os

import torch

from vtn.sections import MachineConfig


def choose(machine: MachineConfig) -> torch.device:
    """The accelerator that torch finds, unless `machine.device` is `cpu`."""
    found = None if machine.device == "cpu" else torch.accelerator.current_accelerator(check_available=True)
    return found or torch.device("cpu")


def worker_count(machine: MachineConfig) -> int:
    """Loader processes: `machine.workers`, or one core less than there are, at most eight."""
    if machine.workers is not None:
        return machine.workers
    return min((os.cpu_count() or 1) - 1, 8)
