"""uint8 frames become what the backbone reads; what training changes is the same in every frame of a clip."""

import pytest
import torch

from vtn.sections import AugmentConfig
from vtn.training.augmentation import preparation

CHANGES = {
    "colour": AugmentConfig(colour_jitter=0.5),
    "rotation": AugmentConfig(rotation_degrees=40),
    "erasing": AugmentConfig(erasing=1.0),
    "all": AugmentConfig(colour_jitter=0.5, rotation_degrees=40, erasing=0.5),
}


def normalise(frames):
    return (frames - 0.5) / 0.25


def stills(clips=6, length=3):
    """(B, T, C, H, W): each clip is one picture, repeated."""
    picture = torch.randint(256, (1, 1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    return picture.expand(clips, length, -1, -1, -1).to(torch.uint8)


@pytest.mark.parametrize("augment", [None, AugmentConfig()])
def test_frames_are_scaled_to_one_and_normalised(augment):
    frames = stills()
    prepared = preparation(normalise, augment)(frames)
    assert prepared.dtype == torch.float32
    torch.testing.assert_close(prepared, (frames.float() / 255 - 0.5) / 0.25)
    assert frames.dtype == torch.uint8 and torch.equal(frames, stills())  # the batch itself stays


@pytest.mark.parametrize("augment", [None, *CHANGES.values()])
def test_features_pass_unchanged(augment):
    features = torch.randn(2, 4, 8)
    assert preparation(normalise, augment)(features) is features


@pytest.mark.parametrize("change", CHANGES)
def test_all_frames_of_a_clip_change_alike_and_clips_differ(change):
    torch.manual_seed(0)
    prepared = preparation(lambda frames: frames, CHANGES[change])(stills())
    assert prepared.shape == stills().shape
    for clip in prepared:
        torch.testing.assert_close(clip, clip[:1].expand_as(clip))
    assert len({round(clip.sum().item(), 3) for clip in prepared}) > 3
    assert prepared.min() >= 0 and prepared.max() <= 1


@pytest.mark.parametrize("change", CHANGES)
def test_the_seed_decides_the_change(change):
    prepare = preparation(normalise, CHANGES[change])
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(prepare(stills()))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
