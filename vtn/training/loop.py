"""The training loop: epochs of clips, validation after each, a state to resume from."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from vtn.data.clips import Batch, EpochSampler, Sample
from vtn.model.vtn import VTN
from vtn.sections import MachineConfig, TrainConfig
from vtn.training import resume
from vtn.training.augmentation import Prepare
from vtn.training.optimiser import build_average, build_optimizer, build_schedule

Validate = Callable[[VTN], dict[str, float]]
"""Accuracy of a model on the validation split: at least `top1` and `loss`."""

OnEpoch = Callable[[list[dict[str, float]]], None]
"""Called with the history so far after each epoch."""


@dataclass
class Progress:
    """Where a training stands: whole epochs, then batches of the current one with their summed loss."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    clips: int = 0
    seconds: float = 0.0
    best: list[float] = field(default_factory=list)  # top-1 and minus loss, compared in this order
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Trains one model on one loader; everything it needs to go on after a kill lies in `work`."""

    def __init__(
        self,
        model: VTN,
        batches: "DataLoader[Sample]",
        *,
        train: TrainConfig,
        machine: MachineConfig,
        seed: int,
        work: Path,
    ) -> None:
        self._train, self._machine, self._seed = train, machine, seed
        self._state, self._best = work / "state.safetensors", work / "best.safetensors"
        self._accelerator = Accelerator(
            cpu=machine.device == "cpu",
            mixed_precision=_precision(train.precision),
            gradient_accumulation_steps=train.accumulate,
        )
        self._sampler: EpochSampler = batches.sampler  # type: ignore[assignment]
        self._per_epoch = math.ceil(len(batches) / train.accumulate)
        optimizer = build_optimizer(model, train)
        self._schedule = build_schedule(optimizer, train, updates_per_epoch=self._per_epoch)
        self._plain = model
        self._model, self._optimizer, self._batches = self._accelerator.prepare(model, optimizer, batches)
        # accelerate also hides autocast in the model's forward. `_step` has its own, and what is validated or kept
        # must compute as in evaluation: in float32.
        self._accelerator.unwrap_model(self._model, keep_fp32_wrapper=False)
        self._average = build_average(model, train)
        self._loss = nn.CrossEntropyLoss(label_smoothing=train.label_smoothing)

    def fit(self, prepare: Prepare, validate: Validate, on_epoch: OnEpoch) -> list[dict[str, float]]:
        """Train to the last epoch, from the saved state if there is one.

        Leaves the weights of the best epoch (validation top-1, then validation loss) in the model and
        returns the history, one row an epoch.
        Raises ValueError that names the batch's videos when the loss is not finite.
        """
        progress = self._resume()
        while progress.epoch < self._train.epochs:
            self._run_epoch(progress, prepare)
            self._end_epoch(progress, validate)
            on_epoch(progress.history)
        weights, _ = resume.load_tensors(self._best)
        self._plain.load_state_dict(weights)
        return progress.history

    def _resume(self) -> Progress:
        if not self._state.exists():
            return Progress()
        saved = resume.load_state(
            self._state, model=self._plain, average=self._average, optimizer=self._optimizer
        )
        progress = Progress(**saved)
        if progress.epoch < self._train.epochs:
            print(f"resuming at epoch {progress.epoch + 1}, batch {progress.batch + 1}")
        return progress

    def _run_epoch(self, progress: Progress, prepare: Prepare) -> None:
        self._plain.train()
        self._sampler.epoch = progress.epoch
        batches = self._accelerator.skip_first_batches(self._batches, progress.batch)
        title = f"epoch {progress.epoch + 1}/{self._train.epochs}"
        started = last_save = time.monotonic()
        with tqdm(
            total=len(self._batches), initial=progress.batch, desc=title, unit="batch", disable=None
        ) as bar:
            for batch in batches:
                loss = self._step(batch, progress, prepare)
                progress.batch += 1
                progress.loss_sum += loss * len(batch.labels)
                progress.clips += len(batch.labels)
                bar.set_postfix(loss=f"{progress.loss_sum / progress.clips:.3f}", refresh=False)
                bar.update()
                now = time.monotonic()
                progress.seconds, started = progress.seconds + now - started, now
                # Between updates only: gradients that accumulate are not part of the state.
                due = now - last_save >= 60 * self._machine.checkpoint_minutes
                if due and progress.batch % self._train.accumulate == 0:
                    self._save(progress)
                    last_save = now

    def _step(self, batch: Batch, progress: Progress, prepare: Prepare) -> float:
        number = progress.epoch * len(self._batches) + progress.batch
        resume.seed_step(self._seed, number)
        self._schedule.step_update(
            progress.epoch * self._per_epoch + progress.batch // self._train.accumulate
        )
        batch = batch.to(self._accelerator.device)
        with self._accelerator.accumulate(self._model), self._accelerator.autocast():
            logits = self._model(prepare(batch.inputs), batch.positions, batch.mask)  # (B, K)
            loss: Tensor = self._loss(logits.float(), batch.labels)
            value = loss.item()
            if not math.isfinite(value):
                raise ValueError(_not_finite(value, batch, progress))
            self._accelerator.backward(loss)
            if self._accelerator.sync_gradients and self._train.clip_grad is not None:
                self._accelerator.clip_grad_norm_(self._model.parameters(), self._train.clip_grad)
            self._optimizer.step()
            self._optimizer.zero_grad()
        if self._average is not None and self._accelerator.sync_gradients:
            self._average.update(self._plain)
        return value

    def _end_epoch(self, progress: Progress, validate: Validate) -> None:
        # The state holds no learning rate: it may have been saved after the last batch of this epoch.
        self._schedule.step_update((progress.epoch + 1) * self._per_epoch - 1)
        candidate = self._plain if self._average is None else self._average.module
        row = {
            "epoch": progress.epoch + 1,
            "train_loss": progress.loss_sum / progress.clips,
            "learning_rate": max(group["lr"] for group in self._optimizer.param_groups),
            "seconds": round(progress.seconds, 3),
            **{f"val_{name}": value for name, value in validate(candidate).items()},
        }
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        progress.history.append(row)
        if (reached := [row["val_top1"], -row["val_loss"]]) > progress.best:
            progress.best = reached
            resume.save_tensors(self._best, candidate.state_dict(), {"epoch": progress.epoch + 1})
        progress.epoch, progress.batch = progress.epoch + 1, 0
        progress.loss_sum, progress.clips, progress.seconds = 0.0, 0, 0.0
        self._save(progress)

    def _save(self, progress: Progress) -> None:
        resume.save_state(
            self._state,
            model=self._plain,
            average=self._average,
            optimizer=self._optimizer,
            progress=asdict(progress),
        )


def _precision(wanted: str) -> str:
    """accelerate's name of a precision; `auto` is bfloat16 where the device computes in it."""
    if wanted == "auto":
        wanted = "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"
    return {"float32": "no", "bf16": "bf16"}[wanted]


def _not_finite(value: float, batch: Batch, progress: Progress) -> str:
    return (
        f"the loss became {value} in epoch {progress.epoch + 1}, batch {progress.batch + 1} "
        f"(videos: {', '.join(batch.videos)}); lower train.learning_rate, set train.clip_grad, "
        "or look at these videos"
    )
