import json
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch
from small_model import CLASSES, SIDE, write_checkpoint, write_clip

from vtn.data.clips import EvaluationClips, Labelled, whole_video_views
from vtn.data.frame_store import FrameStore
from vtn.data.packing import pack
from vtn.data.sampling import WholeVideo
from vtn.evaluation.predict import predict
from vtn.model import checkpoint
from vtn.predictor import Predictor, TablePredictor
from vtn.sections import DecodeConfig
from vtn.training.augmentation import preparation

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "vtn"
    write_checkpoint(directory)
    return directory


@pytest.fixture(scope="module")
def predictor(model) -> Predictor:
    return Predictor(model, CPU)


def test_an_answer_is_that_of_the_evaluation_of_the_stored_frames(model, predictor, tmp_path):
    video = write_clip(tmp_path / "videos" / "a.mp4", frames=60, fps=30)
    rows = pd.DataFrame({"video": ["a.mp4"], "label": "run", "split": "test", "group": ""}, dtype="str")
    decode = DecodeConfig(short_side=SIDE, max_fps=25.0, shards=1)
    pack(rows, tmp_path / "videos", tmp_path / "frames", decode=decode, workers=0)
    store, labelled = FrameStore.open(tmp_path / "frames"), Labelled(("a.mp4",), (0,))
    network, card = checkpoint.load(model)
    reading = WholeVideo(
        rate=card.rate,
        max_frames=card.max_frames,
        position_rate=card.clip.position_rate,
        sampling=card.sampling,
    )
    views = whole_video_views(store, labelled, reading)
    clips = EvaluationClips(store, labelled, views, clip=card.clip)
    stored = predict(
        network,
        clips,
        prepare=preparation(network.backbone.normalise),
        batch_size=1,
        workers=0,
        device=CPU,
    ).probabilities[0]

    found = predictor.predict(video)

    by_label = dict(zip(found.labels, found.probabilities, strict=True))
    assert [by_label[name] for name in CLASSES] == pytest.approx(stored.tolist(), abs=1e-9)


def test_classes_come_most_probable_first_and_sum_to_one(predictor, tmp_path):
    found = predictor.predict(write_clip(tmp_path / "a.mp4"))
    assert sorted(found.labels) == sorted(CLASSES)
    assert list(found.probabilities) == sorted(found.probabilities, reverse=True)
    assert sum(found.probabilities) == pytest.approx(1)
    assert list(found.top(2)) == list(found.labels[:2])
    assert found.note == ""


def test_frames_are_taken_at_the_rate_of_the_card(predictor, tmp_path):
    found = predictor.predict(write_clip(tmp_path / "a.mp4", frames=50, fps=25))
    assert found.seconds == pytest.approx(2.0)
    assert found.frames == 8  # at 0, 0.25, ... 1.75 s


def test_a_long_video_gives_no_more_frames_than_the_card_allows(tmp_path):
    write_checkpoint(tmp_path / "vtn", max_frames=3)
    found = Predictor(tmp_path / "vtn", CPU).predict(write_clip(tmp_path / "a.mp4", frames=50))
    assert found.frames == 3


def test_more_frames_may_be_asked_than_the_card_allows(tmp_path):
    write_checkpoint(tmp_path / "vtn", max_frames=3)
    found = Predictor(tmp_path / "vtn", CPU, max_frames=6).predict(
        write_clip(tmp_path / "a.mp4", frames=100, fps=25)
    )
    assert found.frames == 6


def test_chunks_of_frames_give_the_answer_of_one_pass(model, tmp_path):
    video = write_clip(tmp_path / "a.mp4", frames=60 * 25, fps=25)
    whole, chunked = (
        Predictor(model, CPU, max_frames=1000, chunk=chunk).predict(video) for chunk in (1000, 7)
    )
    assert whole.frames == chunked.frames == 240
    assert whole.labels == chunked.labels
    assert whole.probabilities == pytest.approx(chunked.probabilities, abs=1e-5)


def test_a_watched_video_shows_its_frames_until_it_is_let_go(predictor, tmp_path):
    with predictor.watch(write_clip(tmp_path / "a.mp4", frames=50, fps=25)) as watched:
        assert watched.features.shape[:2] == watched.positions.shape == (1, 8)
        assert watched.seconds.tolist() == pytest.approx([0.25 * number for number in range(8)], abs=0.03)
        assert watched.frames(np.array([0, 7])).shape[0] == 2
    with pytest.raises(ValueError, match="closed"):
        watched.frames(np.array([0]))


def test_one_frame_is_enough_for_an_answer(predictor, tmp_path):
    found = predictor.predict(write_clip(tmp_path / "a.mp4", frames=1))
    assert (found.frames, found.different) == (1, 1) and found.extent.startswith("1 frame of ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "missing file: no such file"),
        (b"", "unreadable: an empty file"),
        (b"hello", "unreadable: a text file"),
    ],
)
def test_a_file_that_cannot_be_used_raises_its_one_line_reason(predictor, tmp_path, content, reason):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as problem:
        predictor.predict(path)
    assert "\n" not in str(problem.value)


def test_a_truncated_video_is_answered_with_a_note(predictor, tmp_path):
    whole = tmp_path / "whole.avi"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), dtype=np.uint8)
        for picture in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert predictor.predict(cut).note.startswith("truncated: ")


def test_a_table_of_paths_gives_an_answer_or_an_error_a_row(predictor, tmp_path):
    good, bad = write_clip(tmp_path / "a.mp4"), tmp_path / "absent.mp4"
    table = TablePredictor(predictor).predict(pd.DataFrame({"video": [str(good), str(bad)]}))
    assert list(table.columns) == ["video", "label", "probability", "top5", "error"]
    found = predictor.predict(good)
    assert table["label"][0] == found.labels[0] and table["probability"][0] == found.probabilities[0]
    assert table["top5"][0] == found.top(5) and len(table["top5"][0]) == 5
    assert table["error"][1] == "missing file: no such file" and pd.isna(table["label"][1])
    assert pd.isna(table["error"][0])


def test_a_directory_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not found: run `dvc repro train`"):
        Predictor(tmp_path / "vtn", CPU)


@pytest.mark.slow
def test_every_odd_file_gets_an_answer_or_a_reason(predictor, shared):
    expected = pd.read_csv(shared / "media" / "odd" / "expected.csv").set_index("file")
    for name, row in expected.iterrows():
        path = shared / "media" / "odd" / str(name)
        if row["frames_decodable"] > 0:
            assert len(predictor.predict(path).labels) == len(CLASSES)
        else:
            with pytest.raises(ValueError, match=r"^(unreadable|no video stream|no frame): [^\n]+$"):
                predictor.predict(path)


def test_an_imported_model_counts_frames_as_the_release_does(tmp_path):
    write_checkpoint(tmp_path / "vtn")
    card = tmp_path / "vtn" / checkpoint.CARD
    imported = {"sampling": "reference", "rate": 25.0, "max_frames": 50}
    facts = json.loads(card.read_text())
    card.write_text(json.dumps({**facts, **imported, "decode": {**facts["decode"], "max_fps": None}}))
    with Predictor(tmp_path / "vtn", CPU).watch(write_clip(tmp_path / "a.mp4", frames=20, fps=25)) as watched:
        assert watched.positions.shape == (1, 50)  # shorter videos repeat frames
        assert watched.positions.max() == 19


def test_weights_that_give_no_numbers_give_a_reason(predictor, tmp_path):
    with (
        predictor.watch(write_clip(tmp_path / "a.mp4")) as watched,
        pytest.raises(ValueError, match="not finite"),
    ):
        predictor.prediction(torch.full((1, len(CLASSES)), torch.nan), watched)
