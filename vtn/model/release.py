"""Weights of the authors' release, and ours in its form (github.com/bomri/SlowFast, projects/vtn, commit 00a6820)."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vtn.model import backbone as backbones
from vtn.model.backbone import Backbone
from vtn.model.vtn import VTN, build_on_features
from vtn.sections import BackboneConfig, HeadConfig, ModelConfig, TemporalConfig

# The release shifts and scales every backbone's frames alike, whatever its weights were trained with.
MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
CROP = 224
# Plain ViTs by width, patch and depth.
PUBLISHED = {
    (768, 16, 12): "vit_base_patch16_224",
    (384, 16, 12): "vit_small_patch16_224",
    (192, 16, 12): "vit_tiny_patch16_224",
}
# An index that old versions of transformers kept as a buffer.
TOLERATED = ("temporal_encoder.embeddings.position_ids",)

# Ours to the release's; what follows the longest of these beginnings is spelt alike.
NAMES = {
    "temporal.cls_token": "cls_token",
    "temporal.embeddings.token_types": "temporal_encoder.embeddings.token_type_embeddings",
    "temporal.embeddings.positions": "temporal_encoder.embeddings.position_embeddings",
    "temporal.embeddings.norm": "temporal_encoder.embeddings.LayerNorm",
    "head": "mlp_head",
    "backbone.network": "backbone",
}
LAYER = "temporal_encoder.encoder.layer"
LAYER_NAMES = {
    "attention": "attention.self",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}


def from_release(
    state_dict: Mapping[str, Tensor],
    *,
    num_heads: int,
    attention_window: int | Sequence[int],
    backbone: str | nn.Module | None = None,
) -> VTN:
    """A VTN in evaluation mode with the release's weights; all sizes are read from the tensors.

    Args:
        state_dict: `model_state` of a release checkpoint.
        num_heads: N, which no tensor tells.
        attention_window: frames, half on each side, for all layers or one number a layer; no tensor tells it.
        backbone: a timm name, or a module from frames (M, C, H, W) to features (M, D). None: a model for features,
            whose `encode_time` and `classify` work alone; weights of a backbone are then left aside.

    Position ids may be raw frame numbers: they wrap as the release's do.

    Raises:
        ValueError: keys that are missing, unexpected, or of another shape or kind, each named.
    """
    state = {name: tensor for name, tensor in state_dict.items() if name not in TOLERATED}
    config = sizes(state, num_heads=num_heads, attention_window=attention_window)
    features = state["cls_token"].shape[-1]
    wrapped = None if backbone is None else _wrap(backbone, state, features)
    if backbone is None:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("backbone.")}
    with torch.device("meta"):
        model = build_on_features(config, num_classes=len(state["mlp_head.4.bias"]), features=features)
    model.backbone = wrapped
    _fill(model, state)
    return model.eval()


def to_release(model: VTN) -> dict[str, Tensor]:
    """The state dict that the release's model of the same sizes loads.

    Raises ValueError where the release has no counterpart of the model.
    """
    temporal = model.temporal
    problems = []
    if not temporal.layers:
        problems.append("it has no layers")
    elif temporal.embeddings.kind != "learned":
        problems.append(f"its positions are {temporal.embeddings.kind}, not learned")
    if not isinstance(temporal.projection, nn.Identity):
        problems.append("its width is not the backbone's")
    if not isinstance(temporal.final_norm, nn.Identity):
        problems.append("its layers are pre-LN")
    if kinds := {layer.attention.kind for layer in temporal.stack} - {"window"}:
        problems.append(f"its attention is {kinds.pop()}")
    if problems:
        raise ValueError(f"the release has no such model: {'; '.join(problems)}")
    return {release_name(name): tensor for name, tensor in model.state_dict().items()}


def sizes(
    state: Mapping[str, Tensor], *, num_heads: int, attention_window: int | Sequence[int]
) -> ModelConfig:
    """The configuration, backbone aside, that the tensors of a release checkpoint tell.

    Raises ValueError where the state dict is not the release's, or heads and windows do not suit it.
    """
    layers = sum(name.startswith(f"{LAYER}.") and name.endswith("intermediate.dense.bias") for name in state)
    needed = (
        "cls_token",
        f"{LAYER}.0.intermediate.dense.bias",
        "temporal_encoder.embeddings.position_embeddings.weight",
        "mlp_head.1.bias",
        "mlp_head.4.bias",
    )
    if absent := [name for name in needed if name not in state]:
        raise ValueError(f"not a VTN of the release: it has no {', '.join(absent)}")
    for name in needed:
        rank = {"cls_token": 3, "temporal_encoder.embeddings.position_embeddings.weight": 2}.get(name, 1)
        shape = tuple(state[name].shape)
        if len(shape) != rank or 0 in shape:
            raise ValueError(
                f"not a VTN of the release: {name} has the shape {shape}, not one of rank {rank}"
            )
    if len(state["temporal_encoder.embeddings.position_embeddings.weight"]) < 4:
        raise ValueError("not a VTN of the release: it has fewer than 4 positions")
    width = state["cls_token"].shape[-1]
    if num_heads < 1 or width % num_heads:
        raise ValueError(
            f"num_heads (--heads): {num_heads} does not divide the width {width} of the checkpoint"
        )
    windows = [attention_window] * layers if isinstance(attention_window, int) else list(attention_window)
    if len(windows) != layers:
        raise ValueError(
            f"attention_window (--window): {len(windows)} windows for the {layers} layers of the checkpoint"
        )
    if any(window < 2 or window % 2 for window in windows):
        raise ValueError(f"attention_window (--window): {attention_window} must be even and at least 2")
    temporal = TemporalConfig(
        layers=layers,
        heads=num_heads,
        width=None,
        feedforward=len(state[f"{LAYER}.0.intermediate.dense.bias"]),
        attention="window",
        window=windows[0] if len(set(windows)) == 1 else tuple(windows),
        norm="post",
        position="learned",
        max_positions=len(state["temporal_encoder.embeddings.position_embeddings.weight"]),
        dropout=0.1,
        attention_dropout=0.1,
    )
    return ModelConfig(temporal=temporal, head=HeadConfig(hidden=len(state["mlp_head.1.bias"]), dropout=0.5))


def release_name(name: str) -> str:
    """The release's key of one of ours."""
    if name.startswith("temporal.layers."):
        _, _, layer, part, rest = name.split(".", 4)
        return f"{LAYER}.{layer}.{LAYER_NAMES[part]}.{rest}"
    start = next(start for start in NAMES if name == start or name.startswith(f"{start}."))
    return NAMES[start] + name.removeprefix(start)


def vision_transformer(state: Mapping[str, Tensor]) -> tuple[BackboneConfig, int] | None:
    """The timm model and the crop (pixels a side) that the backbone's tensors tell; None where it is no plain ViT.

    How many heads it has no tensor tells: 64 features each as in every published one, else four.
    """
    patches, table = state.get("backbone.patch_embed.proj.weight"), state.get("backbone.pos_embed")
    blocks = [
        tensor
        for name, tensor in state.items()
        if name.startswith("backbone.blocks.") and name.endswith("mlp.fc1.weight")
    ]
    if patches is None or table is None or not blocks:
        return None
    if (patches.ndim, table.ndim, blocks[0].ndim) != (4, 3, 2) or 0 in patches.shape or table.shape[1] < 2:
        return None
    width, _, patch, _ = patches.shape
    crop = patch * math.isqrt(table.shape[1] - 1)
    if (width, patch, len(blocks)) in PUBLISHED:
        return BackboneConfig(name=PUBLISHED[width, patch, len(blocks)]), crop
    options = {
        "embed_dim": width,
        "patch_size": patch,
        "depth": len(blocks),
        "num_heads": 4 if width % 64 else width // 64,
        "mlp_ratio": len(blocks[0]) / width,
    }
    return BackboneConfig(name="vit_base_patch16_224", options=options), crop


def _wrap(backbone: str | nn.Module, state: Mapping[str, Tensor], features: int) -> Backbone:
    if isinstance(backbone, str):
        found = vision_transformer(state)
        backbone = backbones.build(BackboneConfig(name=backbone), CROP if found is None else found[1])
    if isinstance(backbone, Backbone):
        backbone = backbone.network
    return Backbone(backbone, num_features=features, mean=MEAN, std=STD)


def _fill(model: VTN, state: Mapping[str, Tensor]) -> None:
    """Give every tensor of the model the release's values; ValueError lists all that does not fit."""
    names = {release_name(name): name for name in model.state_dict()}
    own = {release_name(name): tensor for name, tensor in model.state_dict().items()}
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    odd = [
        f"{name} {state[name].dtype}"
        for name, tensor in own.items()
        if name in state and state[name].is_floating_point() != tensor.is_floating_point()
    ]
    problems = {
        "missing": [name for name in names if name not in state],
        "unexpected": [name for name in state if name not in names],
        "of another shape": shapes,
        "of another kind": odd,
    }
    if found := [f"{what} {_some(which)}" for what, which in problems.items() if which]:
        raise ValueError(f"the checkpoint does not fit the model: {'; '.join(found)}")
    model.load_state_dict({ours: state[theirs].clone() for theirs, ours in names.items()}, assign=True)


def _some(names: Sequence[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
