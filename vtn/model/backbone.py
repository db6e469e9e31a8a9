"""The backbone: any timm model, from one frame to one feature vector. The only import of timm."""

import difflib
import hashlib
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]
from timm.data import resolve_model_data_config
from timm.models import load_state_dict
from torch import Tensor, nn

from vtn.sections import BackboneConfig

REACH_SECONDS = 3.0
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
REMEDIES = "name a local file in model.backbone.weights, fill the cache of HF_HOME, or set pretrained: false"


class Backbone(nn.Module):
    """A network that maps frames (M, C, H, W) to features (M, D), and the colours that it expects.

    A frozen one keeps its weights, and stays in evaluation mode so that BatchNorm statistics and dropout
    rest too.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        num_features: int,
        mean: Sequence[float],
        std: Sequence[float],
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.num_features = num_features
        self.frozen = frozen
        # Not persistent: they belong to the card of a checkpoint, not to its weights.
        self.register_buffer("mean", torch.empty(len(mean), 1, 1), persistent=False)
        self.register_buffer("std", torch.empty(len(std), 1, 1), persistent=False)
        self.set_normalisation(mean, std)
        if frozen:
            self.freeze()

    def freeze(self) -> Self:
        """Keep weights and statistics as they are from now on."""
        self.frozen = True
        self.requires_grad_(False)
        return self.train()

    def fingerprint(self) -> str:
        """sha256 of the numbers in it: weights, statistics, colours; two networks may share them all."""
        digest = hashlib.sha256()
        for name, tensor in {**self.state_dict(), "mean": self.mean, "std": self.std}.items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def forward(self, frames: Tensor) -> Tensor:
        """Features (M, D) of normalised frames (M, C, H, W)."""
        # Measured on one CPU thread: forward and backward of test_resnet 1.35 times as fast in this layout, forward
        # alone 1.9 times; transformers are indifferent.
        features: Tensor = self.network(frames.contiguous(memory_format=torch.channels_last))
        return features

    def normalise(self, frames: Tensor) -> Tensor:
        """Frames (..., C, H, W) with colours 0 to 1, shifted and scaled as the weights were trained."""
        return (frames - self.mean) / self.std

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Replace mean and standard deviation, one number a channel of colours 0 to 1."""
        self.mean.copy_(torch.tensor(mean).view(-1, 1, 1))
        self.std.copy_(torch.tensor(std).view(-1, 1, 1))

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, unless frozen."""
        return super().train(mode and not self.frozen)


def build(config: BackboneConfig, crop: int) -> Backbone:
    """The configured timm model for frames of `crop` pixels a side.

    Raises ValueError for an unknown name and for weights that are missing, foreign or out of reach.
    """
    _check_name(config.name)
    network = _pretrained(config, crop) if config.pretrained else _create(config, crop)
    if config.weights is not None:
        _load_weights(network, config.weights)
    _check_crop(network, config.name, crop)
    colours = resolve_model_data_config(network)
    return Backbone(
        network,
        # Some networks end in a wider layer than their last stage has channels.
        num_features=getattr(network, "head_hidden_size", None) or network.num_features,
        mean=colours["mean"],
        std=colours["std"],
        frozen=config.frozen,
    )


def weights_hash(config: BackboneConfig) -> str | None:
    """sha256 of the local file that the weights come from, None where there is none."""
    if config.weights is None or not config.weights.is_file():
        return None
    with config.weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_crop(network: Any, name: str, crop: int) -> None:
    """Try one frame: what sizes a network takes is written nowhere."""
    network.eval()  # a trial must not touch BatchNorm statistics
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, crop, crop))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"clip.crop: {crop} does not suit model.backbone.name: {name} ({_one_line(error)}); choose another size"
        ) from None
    network.train()


def _create(config: BackboneConfig, crop: int, **source: Any) -> Any:
    # Transformers are built for one input size; convolutional networks take any and refuse the argument.
    size = {"img_size": crop} if timm.get_pretrained_cfg(config.name).fixed_input_size else {}
    try:
        return timm.create_model(config.name, num_classes=0, **size, **source, **config.options)
    except (TypeError, AssertionError) as error:
        if not config.options:
            raise
        raise ValueError(
            f"model.backbone.options: {config.options} do not suit model.backbone.name: {config.name} "
            f"({_one_line(error)}); give arguments of timm's constructor, or {{}}"
        ) from None


def _check_name(name: str) -> None:
    architecture, _, tag = name.partition(".")
    known = timm.list_pretrained(f"{architecture}.*") if tag else timm.list_models()
    if name in known or (not tag and timm.is_model(name)):
        return
    if tag and not known:
        known = timm.list_models()
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
    raise ValueError(f"model.backbone.name: {name!r} is no timm model; did you mean {' or '.join(near)}?")


def _pretrained(config: BackboneConfig, crop: int) -> Any:
    """Published weights: from the hub's cache where they are, else over the network if it answers."""
    name = config.name
    if not timm.is_model_pretrained(name):
        raise ValueError(
            f"model.backbone.pretrained: true, but timm publishes no weights of {name}; "
            "set model.backbone.pretrained: false or name a local file in model.backbone.weights"
        )
    if cached := _cached(name):
        return _create(config, crop, pretrained=True, pretrained_cfg_overlay={"file": cached})
    # The hub's own retries last the better part of a minute before they say that there is no network.
    if not _answers(constants.ENDPOINT):
        raise ValueError(
            f"model.backbone.pretrained: true, but the weights of {name} are not in the cache and "
            f"{constants.ENDPOINT} does not answer; {REMEDIES}"
        )
    try:
        return _create(config, crop, pretrained=True)
    except OSError as error:
        raise ValueError(
            f"model.backbone.pretrained: true, but fetching the weights of {name} failed "
            f"({_one_line(error)}); {REMEDIES}"
        ) from None


def _cached(name: str) -> str | None:
    source = timm.get_pretrained_cfg(name)
    files = (source.hf_hub_filename,) if source.hf_hub_filename else HUB_FILES
    found = [try_to_load_from_cache(source.hf_hub_id, file) for file in files if source.hf_hub_id]
    return next((path for path in found if isinstance(path, str)), None)


def _answers(address: str) -> bool:
    """Whether the hub answers within seconds; in a thread, since looking up a name has no time limit."""
    answered = threading.Event()

    def ask() -> None:
        with suppress(Exception):
            get_session().head(address, timeout=REACH_SECONDS)
            answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return answered.is_set()


def _load_weights(network: Any, path: Path) -> None:
    """Fill the network from a local file; every key must fit, save those of the classifier left out."""
    if not path.is_file():
        raise ValueError(
            f"model.backbone.weights: {path} not found; give the path of a .safetensors, .pth or .bin file"
        )
    try:
        state = load_state_dict(str(path))
    except Exception as error:  # each file format has exceptions of its own
        raise ValueError(
            f"model.backbone.weights: {path} is not a readable weights file ({_one_line(error)}); "
            "give a .safetensors file, or a .pth or .bin file that holds tensors only"
        ) from None
    # timm's families name their adapter alike: old key names, position tables of another input size.
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    try:
        result = network.load_state_dict(adapt(state, network) if adapt else state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"model.backbone.weights: {path} does not fit: {_one_line(error)}") from None
    classifiers = network.pretrained_cfg.get("classifier") or ()
    names = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    unexpected = [key for key in result.unexpected_keys if not key.startswith(tuple(f"{n}." for n in names))]
    if result.missing_keys or unexpected:
        raise ValueError(
            f"model.backbone.weights: {path} does not fit model.backbone.name: "
            f"{network.pretrained_cfg['architecture']}; missing {_some(result.missing_keys)}, "
            f"unexpected {_some(unexpected)}; name the model that the file was made for"
        )


def _some(keys: Sequence[str], limit: int = 3) -> str:
    shown = ", ".join(keys[:limit]) or "nothing"
    return f"{shown} and {len(keys) - limit} more" if len(keys) > limit else shown


def _one_line(error: Exception, limit: int = 200) -> str:
    return " ".join(str(error).split())[:limit] or type(error).__name__
