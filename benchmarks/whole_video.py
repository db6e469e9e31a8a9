"""What the temporal encoder and the head add to the backbone on a whole video.

Run as `python -m benchmarks.whole_video`: ViT-B-VTN with 3 layers and random weights, 250 frames of 224 pixels, by
turns with its bare backbone on the same frames; both take the frames in chunks, as `vtn predict` does.
"""

import argparse

import torch
from torch import Tensor

from benchmarks.timing import medians
from vtn import config, presets
from vtn.evaluation.benchmark import device_name
from vtn.model.vtn import build
from vtn.predictor import CHUNK

GOAL = 1.03


@torch.inference_mode()
def main() -> None:
    """Print both medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=250)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    overrides = {**presets.find("vit_b_vtn_3").set, "model.backbone.pretrained": False}
    params = config.with_overrides(config.load(), overrides)
    model = build(params.model, num_classes=400, crop=params.clip.crop).eval()
    backbone = model.backbone
    assert backbone is not None
    video = torch.randn(1, options.frames, 3, params.clip.crop, params.clip.crop)
    positions = torch.arange(options.frames)[None]
    chunks = [video[:, start : start + CHUNK] for start in range(0, options.frames, CHUNK)]

    def whole() -> Tensor:
        features = torch.cat([model.encode_frames(chunk) for chunk in chunks], dim=1)
        return model.classify(model.encode_time(features, positions))

    def bare() -> list[Tensor]:
        return [backbone(chunk[0]) for chunk in chunks]

    assert all(
        torch.equal(model.encode_frames(chunk)[0], bare_features)
        for chunk, bare_features in zip(chunks[:1], bare()[:1], strict=True)
    ), "the features differ"
    ours, floor = medians([whole, bare], options.repeats)
    verdict = "met" if ours <= GOAL * floor else "MISSED"
    print(
        f"{device_name('cpu')}, ViT-B-VTN (3), {options.frames} frames of {params.clip.crop} pixels, float32"
    )
    print(
        f"whole video {ours:.0f} ms, bare backbone {floor:.0f} ms, ratio {ours / floor:.4f} (goal {GOAL}: {verdict})"
    )


if __name__ == "__main__":
    main()
