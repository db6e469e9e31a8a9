"""The model against vectors that the authors' released model computed (../shared/golden)."""

import json

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file

from vtn.model import band, segments
from vtn.model.checkpoint import from_release
from vtn.model.release import release_name

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


def read(folder, case):
    return json.loads((folder / f"{case}.json").read_text()), load_file(folder / f"{case}.safetensors")


def model_of(sizes, tensors):
    """The model of a case through `from_release`."""
    shape = {key: value for key, value in sizes["backbone"].items() if key != "type"}
    vit = (
        timm.models.VisionTransformer(**shape, num_classes=0) if sizes["backbone"]["type"] == "vit" else None
    )
    state = {
        name.removeprefix("state."): tensor for name, tensor in tensors.items() if name.startswith("state.")
    }
    return from_release(
        state, num_heads=sizes["num_heads"], attention_window=sizes["attention_window"], backbone=vit
    )


def features_of(model, tensors):
    if model.backbone is None:
        return tensors["input.features"]
    features = model.encode_frames(tensors["input.frames"].transpose(1, 2))
    close(features, tensors["output.backbone_features"])
    return features


def close(ours, theirs, tolerance=TOLERANCE):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@pytest.fixture(params=["as it chooses", "blocks and segments"])
def path(request, monkeypatch):
    """Every case also through the paths of long clips: blocks from the first frame on, segments of three frames."""
    if request.param == "blocks and segments":
        monkeypatch.setattr(band, "DENSE_BLOCKS", 0)
        monkeypatch.setattr(band, "BLOCK", 4)
        monkeypatch.setattr(segments, "SEGMENT", 3)


@pytest.mark.usefixtures("path")
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


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_inference_gives_the_release_s_logits_hidden_states_and_attention(shared, case):
    sizes, tensors = read(shared / "golden", case)
    model = model_of(sizes, tensors)
    features, positions = features_of(model, tensors), tensors["input.position_ids"]
    clip, weights = model.temporal.encode(features, positions)

    close(model.classify(clip), tensors["output.logits"])
    for layer, ours in enumerate(weights):
        close(ours, tensors[f"output.cls_attention.{layer}"])
    hidden = model.temporal.embed(features, positions)
    for layer, module in enumerate(model.temporal.stack):
        close(hidden, tensors[f"output.hidden_states.{layer}"])
        hidden = module(hidden).context
    close(hidden, tensors["output.last_hidden_state"])


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_hidden_states_and_attention_of_the_plain_reference_are_the_release_s(shared, case):
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
