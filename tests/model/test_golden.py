"""The model against vectors that the authors' released model computed (../shared/golden)."""

import json

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file

from vtn.model.backbone import Backbone
from vtn.model.vtn import build_on_features
from vtn.sections import HeadConfig, ModelConfig, TemporalConfig

CASES = (
    "n5_w6",
    "n16_w18_b3",
    "n35_w18_nopad",
    "n37_w18_wrap",
    "n37_w6",
    "n44_w4_8_12",
    "n64_w18",
    "n64_w6_b3",
    "full_vit_n9",
)
TOLERANCE = 2e-5
WHOLE_MODEL_GRADIENTS = 1e-4

# Ours to the release's; what follows the longest of these beginnings is spelt alike.
RELEASE_NAMES = {
    "temporal.cls_token": "cls_token",
    "temporal.embeddings.token_types": "temporal_encoder.embeddings.token_type_embeddings",
    "temporal.embeddings.positions": "temporal_encoder.embeddings.position_embeddings",
    "temporal.embeddings.norm": "temporal_encoder.embeddings.LayerNorm",
    "head": "mlp_head",
    "backbone.network": "backbone",
}
LAYER_NAMES = {
    "attention": "attention.self",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}


def release_name(name: str) -> str:
    if name.startswith("temporal.layers."):
        _, _, layer, part, rest = name.split(".", 4)
        return f"temporal_encoder.encoder.layer.{layer}.{LAYER_NAMES[part]}.{rest}"
    start = next(start for start in RELEASE_NAMES if name.startswith(f"{start}.") or name == start)
    return RELEASE_NAMES[start] + name.removeprefix(start)


def read(folder, case):
    return json.loads((folder / f"{case}.json").read_text()), load_file(folder / f"{case}.safetensors")


def model_of(sizes, tensors):
    temporal = TemporalConfig(
        layers=sizes["num_layers"],
        heads=sizes["num_heads"],
        feedforward=sizes["intermediate_size"],
        window=tuple(sizes["attention_window"]),
        position="learned",
        max_positions=sizes["max_position_embeddings"],
    )
    backbone = None
    if sizes["backbone"]["type"] == "vit":
        shape = {key: value for key, value in sizes["backbone"].items() if key != "type"}
        network = timm.models.VisionTransformer(**shape, num_classes=0)
        backbone = Backbone(network, num_features=shape["embed_dim"], mean=[0.5] * 3, std=[0.5] * 3)
    model = build_on_features(
        ModelConfig(temporal=temporal, head=HeadConfig(hidden=sizes["mlp_dim"])),
        num_classes=sizes["num_classes"],
        features=sizes["hidden_dim"],
        backbone=backbone,
    )
    state = {name: tensors[f"state.{release_name(name)}"] for name in model.state_dict()}
    assert len(state) == sum(name.startswith("state.") for name in tensors)
    model.load_state_dict(state)
    return model.eval()


def features_of(model, tensors):
    if model.backbone is None:
        return tensors["input.features"]
    features = model.encode_frames(tensors["input.frames"].transpose(1, 2))
    close(features, tensors["output.backbone_features"])
    return features


def close(ours, theirs, tolerance=TOLERANCE):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_logits_and_gradients_are_the_release_s(shared, case):
    sizes, tensors = read(shared / "golden", case)
    model = model_of(sizes, tensors)
    clip = model.encode_time(features_of(model, tensors), tensors["input.position_ids"])
    logits = model.classify(clip)
    loss = F.cross_entropy(logits, tensors["input.labels"])
    loss.backward()

    close(logits, tensors["output.logits"])
    close(loss, tensors["output.loss"].squeeze())
    tolerance = TOLERANCE if model.backbone is None else WHOLE_MODEL_GRADIENTS
    for name, parameter in model.named_parameters():
        gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        close(gradient, tensors[f"grad.{release_name(name)}"], tolerance)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_hidden_states_and_attention_are_the_release_s(shared, case):
    sizes, tensors = read(shared / "golden", case)
    model = model_of(sizes, tensors)
    trace = model.temporal.reference(features_of(model, tensors), tensors["input.position_ids"])

    close(trace.hidden[-1], tensors["output.last_hidden_state"])
    for layer, hidden in enumerate(trace.hidden[:-1]):
        close(hidden, tensors[f"output.hidden_states.{layer}"])
    for layer, window in enumerate(sizes["attention_window"]):
        close(trace.cls_weights[layer], tensors[f"output.cls_attention.{layer}"])
        close(banded(trace.frame_weights[layer], window // 2), tensors[f"output.local_attention.{layer}"])


def banded(weights, reach):
    """Dense (B, N, T, T+1) as the release stores it: CLS, then offsets -reach to reach, zero outside."""
    frames = weights.shape[2]
    padded = F.pad(weights[..., 1:], (reach, reach))
    column = torch.arange(frames)[:, None] + torch.arange(2 * reach + 1)
    band = padded.gather(-1, column.expand(*weights.shape[:2], -1, -1))
    return torch.cat([weights[..., :1], band], dim=-1)
