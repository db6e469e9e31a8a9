"""The decoded data set as training sees it: classes, splits, and who may be used."""

import pandas as pd
import pytest
from drawn_videos import write_video

from vtn.data import manifest
from vtn.data.corpus import Corpus
from vtn.data.frame_store import MANIFEST_FILE
from vtn.data.packing import pack
from vtn.sections import DecodeConfig

ROWS = [
    ("a.mp4", "wave", "train"),
    ("b.mp4", "jump", "train"),
    ("absent.mp4", "jump", "train"),
    ("c.mp4", "wave", "val"),
    ("absent too.mp4", "jump", "val"),
    ("absent test.mp4", "wave", "test"),
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("a.mp4", "b.mp4", "c.mp4")):
        write_video(folder / name, frames=6, shade=5 * number)
    return folder


@pytest.fixture
def frames(videos, tmp_path):
    table = pd.DataFrame(ROWS, columns=["video", "label", "split"], dtype="str").assign(group="")
    decode = DecodeConfig(short_side=32, max_fps=25.0, shards=2, max_rejected=0.9)
    pack(table, videos, tmp_path / "frames", decode=decode, workers=0)
    return tmp_path / "frames"


def edit(frames, video, column, value):
    rows = manifest.read(frames / MANIFEST_FILE)
    rows.loc[rows["video"] == video, column] = value
    manifest.write(rows, frames / MANIFEST_FILE)


def test_classes_are_those_of_training_and_usable_videos_carry_their_numbers(frames):
    corpus = Corpus.open(frames)
    assert corpus.classes == ("jump", "wave")
    train, val = corpus.labelled("train"), corpus.labelled("val")
    assert dict(zip(train.videos, train.labels, strict=True)) == {"a.mp4": 1, "b.mp4": 0}
    assert (val.videos, val.labels) == (("c.mp4",), (1,))


def test_rejected_videos_stay_among_the_annotated(frames):
    corpus = Corpus.open(frames)
    assert [len(corpus.annotated(split)) for split in ("train", "val", "test")] == [3, 2, 1]


def test_a_split_without_a_usable_video_is_refused(frames):
    with pytest.raises(ValueError, match=r"no usable video in split 'test'; .*dataset\.test_share"):
        Corpus.open(frames).labelled("test")


def test_a_class_whose_training_videos_were_all_rejected_is_named(frames):
    edit(frames, "b.mp4", "accepted", False)
    with pytest.raises(ValueError, match=r"every training video of 'jump' was rejected; see .*manifest\.csv"):
        Corpus.open(frames)


@pytest.mark.parametrize(
    ("video", "column", "value"),
    [("a.mp4", "label", "jump"), ("a.mp4", "split", "val"), ("c.mp4", "accepted", False)],
)
def test_the_fingerprint_changes_with_labels_splits_and_acceptance(frames, video, column, value):
    before = Corpus.open(frames).fingerprint
    assert Corpus.open(frames).fingerprint == before
    edit(frames, video, column, value)
    rows = manifest.read(frames / MANIFEST_FILE)
    assert Corpus(Corpus.open(frames).store, tuple(rows["label"].unique())).fingerprint != before


def test_a_data_set_that_was_not_decoded_names_the_command(tmp_path):
    with pytest.raises(ValueError, match=r"not found: run `dvc repro decode`"):
        Corpus.open(tmp_path / "frames")
