"""A trained VTN on disk: model.safetensors and model.json, which together need nothing else."""

import hashlib
import json
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vtn import config as configs
from vtn.model.backbone import weights_hash
from vtn.model.release import from_release
from vtn.model.vtn import VTN, build, parameter_count
from vtn.sections import ClipConfig, DecodeConfig, ModelConfig, Params, Sampling, Section

__all__ = ["Card", "check_classes", "check_fits", "describe", "from_release", "load", "read_card", "save"]

WEIGHTS = "model.safetensors"
CARD = "model.json"
REMEDY = "train or import it again (`dvc repro train`, `vtn import-checkpoint`)"


class Card(Section):
    """All that one must know to use the weights; `sha256` is theirs, filled in by `save`.

    `backbone_sha256` is that of the local file which the backbone's training began with.
    """

    format: Literal[1] = 1
    model: ModelConfig
    clip: ClipConfig
    classes: tuple[str, ...]
    decode: DecodeConfig
    rate: float
    max_frames: int
    sampling: Sampling = "time"
    features: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    parameters: int
    run: str | None = None
    data: str | None = None
    backbone_sha256: str | None = None
    sha256: str = ""

    @property
    def imported(self) -> bool:
        """Whether no training of ours stands behind the weights."""
        return self.run is None and self.data is None


def describe(
    model: VTN, params: Params, *, classes: Sequence[str], run: str | None = None, data: str | None = None
) -> Card:
    """The card of a model trained with `params`; `run` is the run's uid, `data` its data's fingerprint.

    Whole videos are to be read at `rate` frames a second, at most `max_frames`.
    """
    assert model.backbone is not None, "a VTN on features is not saved"
    return Card(
        model=params.model,
        clip=params.clip,
        classes=tuple(classes),
        decode=params.decode,
        rate=params.evaluate.rate or params.clip.rate,
        max_frames=params.evaluate.max_frames,
        sampling=params.evaluate.sampling,
        features=model.backbone.num_features,
        mean=tuple(model.backbone.mean.flatten().tolist()),
        std=tuple(model.backbone.std.flatten().tolist()),
        parameters=parameter_count(model),
        run=run,
        data=data,
        backbone_sha256=weights_hash(params.model.backbone),
    )


def save(directory: Path, model: VTN, card: Card) -> Card:
    """Write the checkpoint aside, then put it in place of what was there; returns the card as written."""
    assert len(card.classes) == model.head[-1].out_features, "the card's classes are not the model's"
    partial = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, partial / WEIGHTS)
    card = card.model_copy(update={"sha256": _sha256(partial / WEIGHTS)})
    (partial / CARD).write_text(card.model_dump_json(indent=2) + "\n")
    _put_in_place(partial, directory)
    return card


def load(directory: Path, *, device: str | torch.device = "cpu") -> tuple[VTN, Card]:
    """The model in evaluation mode and its card; reads nothing but the directory.

    Raises ValueError where the directory is missing, holds something else, or was changed after saving.
    """
    card = read_card(directory)
    weights = directory / WEIGHTS
    if not weights.is_file() or _sha256(weights) != card.sha256:
        raise ValueError(f"{weights} is missing, cut short or not the file that {CARD} describes; {REMEDY}")
    # The weights are here: neither the network nor the backbone's first weights are asked again.
    backbone = card.model.backbone.model_copy(update={"pretrained": False, "weights": None})
    config = card.model.model_copy(update={"backbone": backbone})
    model = build(config, num_classes=len(card.classes), crop=card.clip.crop)
    try:
        # Assigned rather than copied, so that every tensor keeps the precision it was saved in.
        model.load_state_dict(load_file(weights), assign=True)
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{weights} does not fit {CARD}: {' '.join(str(error).split())}") from None
    assert model.backbone is not None
    model.backbone.set_normalisation(card.mean, card.std)
    return model.to(device).eval(), card


def read_card(directory: Path) -> Card:
    """The card alone, without the weights; raises ValueError as `load` does."""
    if not directory.is_dir():
        raise ValueError(
            f"model {directory} not found: run `dvc repro train` for models/vtn, or name a directory that holds {CARD}"
        )
    path = directory / CARD
    if not path.is_file():
        raise ValueError(
            f"{directory} is not a VTN checkpoint: it has no {CARD}; name a directory like models/vtn"
        )
    try:
        return Card.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise ValueError(
            f"{path} is not the card of a VTN checkpoint: {key}: {problem['msg'].lower()}; {REMEDY}"
        ) from None


def check_fits(
    card: Card,
    params: Params,
    *,
    classes: Sequence[str],
    data: str,
    keys: tuple[str, ...] = ("model.backbone.", "clip.crop"),
) -> None:
    """Raise ValueError unless the checkpoint was trained on this data, and with the params under `keys`.

    By default these are the backbone and what it sees, all that matters where the rest is trained anew.
    """
    check_classes(card, classes)
    if card.data not in (None, data):
        raise ValueError(
            "models/vtn was trained on other videos, labels or splits than data/frames holds now; "
            "run `dvc repro train`"
        )
    different = [found for found in _differences(card, params) if found[0].startswith(keys)]
    if different and card.imported:
        own = " ".join(f"-S {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value, _ in different)
        raise ValueError(f"models/vtn was imported, not trained with these params; set its own: {own}")
    for key, trained, wanted in different:
        raise ValueError(
            f"{key}: {wanted} now, but models/vtn was trained with {trained}; run `dvc repro train`"
        )
    _check_weights(card, params)


def check_classes(card: Card, classes: Sequence[str]) -> None:
    """Raise ValueError unless the checkpoint has just these classes, in this order."""
    if list(card.classes) == list(classes):
        return
    gone = [name for name in card.classes if name not in classes]
    new = [name for name in classes if name not in card.classes]
    difference = f"only in the checkpoint {_some(gone)}; only in the data {_some(new)}"
    if not gone and not new:
        difference = f"the same in another order, {_some(card.classes)} in the checkpoint"
    raise ValueError(
        f"the checkpoint has {len(card.classes)} classes, the data {len(classes)}: {difference}; "
        "use the annotations that it was trained with, or run `dvc repro train`"
    )


def _differences(card: Card, params: Params) -> Iterator[tuple[str, Any, Any]]:
    """The keys of model and clip that card and params disagree on, and both values."""
    trained, wanted = (
        _flat(source.model_dump(mode="json", include={"model", "clip"})) for source in (card, params)
    )
    for key, value in wanted.items():
        if key != "model.backbone.weights" and trained[key] != value:
            yield key, trained[key], value


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys; a timm constructor's options stay one value, since they have no keys of ours."""
    options = tree["model"]["backbone"].pop("options")
    return {**configs.flatten(tree), "model.backbone.options": options}


def _check_weights(card: Card, params: Params) -> None:
    """The backbone's first weights: the same content, or the same path where a file is gone."""
    path, before = params.model.backbone.weights, card.model.backbone.weights
    now, then = weights_hash(params.model.backbone), card.backbone_sha256
    same = now == then if now and then else path == before
    if not same:
        # dvc.yaml cannot name the file, so that only --force repeats the training.
        raise ValueError(
            f"model.backbone.weights: {path} is not what models/vtn began with ({before}, as it was then); "
            "run `dvc repro --force train`"
        )


def _some(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(names[:limit]) or "none"
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put_in_place(partial: Path, directory: Path) -> None:
    old = directory.with_name(f"{directory.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    partial.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
