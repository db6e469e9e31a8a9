"""Checkpoints of the authors' release into ours and back: `vtn import-checkpoint` and `vtn export-checkpoint`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from vtn.model import backbone as backbones
from vtn.model import checkpoint, release, release_file
from vtn.model.checkpoint import Card
from vtn.model.release_file import ReleaseFile
from vtn.model.vtn import VTN
from vtn.sections import (
    BackboneConfig,
    ClipConfig,
    DecodeConfig,
    EvaluateConfig,
    ModelConfig,
    Params,
    Sampling,
)

# The release's whole-video protocol: 250 frames at 25 a second, short side 256 for a crop of 224.
RATE, MAX_FRAMES = 25.0, 250
RESIZED = 256 / 224
# Its temporal encoder: 12 heads of 64 features, 9 frames on each side.
HEAD_WIDTH, OTHER_HEADS, WINDOW = 64, 4, 18
# Means and deviations are of colours 0 to 1, or 0 to 255.
LARGEST_COLOUR, SMALLEST_DEVIATION = 256, 1e-3


@dataclass(frozen=True, kw_only=True)
class Told:
    """What no tensor tells, as a person names it; None: as the file's cfg says, else as in the release.

    `window` has one number, or one a layer; `backbone` is a timm name; `classes` a text file, one name a line.
    `sampling` is how videos are read: by the release's frame numbers, or by time.
    """

    heads: int | None = None
    window: Sequence[int] | None = None
    backbone: str | None = None
    classes: Path | None = None
    sampling: Sampling = "reference"


def import_checkpoint(file: Path, out: Path, told: Told) -> list[str]:
    """Turn FILE.pyth into the checkpoint directory `out`; returns what a person should know, a line each.

    Raises ValueError where the file is no VTN of the release, or `out` holds something else.
    """
    _check_place(out)
    found = release_file.read(file)
    try:
        model, card, notes = _rebuild(found, told)
    except ValidationError as error:  # sizes that no params may have
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise ValueError(
            f"{file} is no checkpoint of a VTN: {key}: {problem['msg'].lower()}, not {problem['input']}"
        ) from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    checkpoint.save(out, model, card)
    left_out = [f"{name} (an index, no weight)" for name in release.TOLERATED if name in found.state]
    return [
        *_provenance(found),
        *notes,
        "missing keys: none; unexpected keys: none",
        f"left out: {', '.join(left_out) or 'nothing'}",
        f"written to {out}; next: vtn predict --model {out} VIDEO",
    ]


def export_checkpoint(directory: Path, out: Path) -> list[str]:
    """Write a checkpoint directory as FILE.pyth; returns what a person should know, a line each.

    Raises ValueError where `directory` is no checkpoint or the release has no such model.
    """
    model, card = checkpoint.load(directory)
    if out.exists() and out.suffix != ".pyth":
        raise ValueError(f"--out {out} exists and is no .pyth file; name another one")
    state = release.to_release(model)
    release_file.write(out, state, _cfg(card))
    backbone = card.model.backbone
    options = f" with {_plain(backbone.options)}" if backbone.options else ""
    return [
        f"left out: {', '.join(release.TOLERATED)} (old versions of transformers make this index themselves)",
        f"left out: how videos are read (at {card.rate:g} frames a second); an import reads them as the release does, "
        "or with --sampling time by presentation time",
        f"its cfg names heads, windows, classes, crop and colours; the backbone is timm's {backbone.name}{options}",
        f"{len(state)} tensors of {directory} written to {out}",
    ]


def _check_place(out: Path) -> None:
    """What is put in place replaces the directory: only what an import left there may go."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / checkpoint.CARD).is_file():
        raise ValueError(f"--out {out} exists and holds no checkpoint; name another directory")
    card = checkpoint.read_card(out)
    if not card.imported:
        raise ValueError(
            f"--out {out} holds a model trained here (run {card.run}); move it away or name another directory"
        )


def _rebuild(found: ReleaseFile, told: Told) -> tuple[VTN, Card, list[str]]:
    """The model, its card, and of what is in neither tensors nor file how it was settled."""
    state = {name: tensor for name, tensor in found.state.items() if name not in release.TOLERATED}
    heads, heads_note = _heads(found, told)
    window, window_note = _window(found, told)
    config = release.sizes(state, num_heads=heads, attention_window=window)
    backbone, crop, backbone_note = _backbone(found, told)
    classes, classes_note = _classes(found, told, count=len(state["mlp_head.4.bias"]))
    model = _filled(state, config, backbone, crop)
    assert model.backbone is not None
    model.backbone.set_normalisation(*_colours(found))
    params = Params(
        model=config.model_copy(update={"backbone": backbone}),
        clip=ClipConfig(frames=16, seconds=5.12, crop=crop, position_rate=RATE),
        decode=DecodeConfig(short_side=round(crop * RESIZED), max_fps=None),
        evaluate=EvaluateConfig(rate=RATE, max_frames=MAX_FRAMES, sampling=told.sampling),
    )
    card = checkpoint.describe(model, params, classes=classes)
    return model, card, [backbone_note, _sizes(card), heads_note, window_note, classes_note]


def _filled(state: dict[str, Tensor], config: ModelConfig, backbone: BackboneConfig, crop: int) -> VTN:
    try:
        return release.from_release(
            state,
            num_heads=config.temporal.heads,
            attention_window=config.temporal.windows,
            backbone=backbones.build(backbone, crop),
        )
    except ValueError as error:
        remedy = "; --backbone names another timm model" if "backbone." in str(error) else ""
        raise ValueError(f"{error}{remedy}") from None


def _heads(found: ReleaseFile, told: Told) -> tuple[int, str]:
    token = found.state.get("cls_token")  # its absence is told with all that lacks
    width = HEAD_WIDTH if token is None or token.ndim == 0 else token.shape[-1]
    usual = OTHER_HEADS if width % HEAD_WIDTH else width // HEAD_WIDTH
    said = found.said("VTN", "NUM_ATTENTION_HEADS")
    heads, source = _settled(told.heads, said if type(said) is int else None, usual)
    return heads, f"heads {heads} {source or 'assumed: no tensor tells; --heads N names another'}"


def _window(found: ReleaseFile, told: Told) -> tuple[int | Sequence[int], str]:
    said = found.said("VTN", "ATTENTION_WINDOW")
    said = [said] if type(said) is int else said
    numbers = isinstance(said, list) and said and all(type(number) is int for number in said)
    window, source = _settled(told.window, said if numbers else None, [WINDOW])
    shown = " ".join(map(str, window))
    note = f"window {shown} {source or 'assumed: no tensor tells; --window N names another'}"
    return window[0] if len(window) == 1 else window, note


def _settled(told: Any, said: Any, usual: Any) -> tuple[Any, str]:
    """The value that counts, and who named it: nobody where it is the usual one."""
    if told is not None:
        return told, "as asked"
    return (usual, "") if said is None else (said, "as the file's cfg says")


def _backbone(found: ReleaseFile, told: Told) -> tuple[BackboneConfig, int, str]:
    """The timm model, its crop in pixels a side, and a line on both."""
    vit = release.vision_transformer(found.state)
    if told.backbone is None and vit is None:
        raise ValueError(
            "its backbone is no plain ViT, and no tensor tells another one's name; name the timm model with "
            "--backbone, for example resnet50, resnet101 or deit_base_distilled_patch16_224"
        )
    said = found.said("DATA", "TEST_CROP_SIZE")
    crop = vit[1] if vit else said if type(said) is int and said > 0 else release.CROP
    if told.backbone is not None:
        return (
            BackboneConfig(name=told.backbone),
            crop,
            f"backbone {told.backbone} at {crop} pixels, as asked",
        )
    assert vit is not None
    note = f"backbone {vit[0].name} at {crop} pixels, told by its tensors"
    if vit[0].options:
        note += f": {_plain(vit[0].options)}; its heads are assumed, --backbone names another timm model"
    return vit[0], crop, note


def _classes(found: ReleaseFile, told: Told, *, count: int) -> tuple[list[str], str]:
    said = found.cfg.get("CLASS_NAMES")
    if told.classes is not None:
        names, source = _lines(told.classes), f"--classes {told.classes}"
    elif isinstance(said, list) and all(type(name) in (str, int) for name in said):
        names, source = [str(name) for name in said], "CLASS_NAMES of its cfg"
    else:
        names = [f"class_{number:03d}" for number in range(count)]
        return names, f"classes {names[0]} to {names[-1]}: nothing names them; --classes FILE does"
    if len(names) != count or len(set(names)) != count:
        raise ValueError(
            f"{source}: {len(names)} names, {len(set(names))} of them different, for {count} classes; "
            "give one name a line"
        )
    if odd := [name for name in names if not name.isprintable()]:
        raise ValueError(f"{source}: {odd[0][:40]!a} holds control characters; give one name a line")
    return names, f"classes {names[0]} to {names[-1]}, as {source} says"


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ValueError(
            f"--classes {path} cannot be read ({reason}); give a text file, one name a line"
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _colours(found: ReleaseFile) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation a channel: of the cfg where it has both, else the release's."""
    said = [found.said("DATA", key) for key in ("MEAN", "STD")]
    whole = all(
        isinstance(numbers, list)
        and len(numbers) == 3
        and all(type(number) in (int, float) and abs(number) < LARGEST_COLOUR for number in numbers)
        for numbers in said
    )
    return (said[0], said[1]) if whole and min(said[1]) > SMALLEST_DEVIATION else (release.MEAN, release.STD)


def _provenance(found: ReleaseFile) -> list[str]:
    known = f"known: {found.recognised} of the release" if found.recognised else "not known"
    lines = [f"{found.path}: sha256 {found.sha256} ({known})"]
    if found.is_impostor:
        lines.append(
            f"warning: {found.path.name} of the release has sha256 {release_file.KNOWN[found.path.name]}: "
            "this is another file, or a changed one"
        )
    return lines


def _sizes(card: Card) -> str:
    temporal = card.model.temporal
    return (
        f"{temporal.layers} layers of width {card.features}, feed-forward {temporal.feedforward}, "
        f"{temporal.max_positions} positions, {len(card.classes)} classes, {card.parameters:,} parameters"
    )


def _cfg(card: Card) -> dict[str, Any]:
    """What the release's configuration says of such a model, and the classes, which it has no place for."""
    temporal, head = card.model.temporal, card.model.head
    return {
        "MODEL": {"MODEL_NAME": "VTN", "NUM_CLASSES": len(card.classes), "DROPOUT_RATE": head.dropout},
        "VTN": {
            "HIDDEN_DIM": card.features,
            "MLP_DIM": head.hidden,
            "NUM_HIDDEN_LAYERS": temporal.layers,
            "NUM_ATTENTION_HEADS": temporal.heads,
            "ATTENTION_WINDOW": list(temporal.windows),
            "INTERMEDIATE_SIZE": temporal.feedforward,
            "MAX_POSITION_EMBEDDINGS": temporal.max_positions,
            "HIDDEN_DROPOUT_PROB": temporal.dropout,
            "ATTENTION_PROBS_DROPOUT_PROB": temporal.attention_dropout,
        },
        "DATA": {"MEAN": list(card.mean), "STD": list(card.std), "TEST_CROP_SIZE": card.clip.crop},
        "CLASS_NAMES": list(card.classes),
    }


def _plain(options: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in options.items()
    )
