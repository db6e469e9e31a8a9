import cv2
import matplotlib
import numpy as np
import pytest

from vtn.evaluation import figures
from vtn.explanation import page
from vtn.explanation.deletion import Deletion
from vtn.explanation.explain import Explanation, evenly_spread, importance, moments
from vtn.predictor import Prediction


def explanation(frames, *, layers=2, heads=3, label="run", video="clip.avi"):
    """Made-up attention over a made-up video whose frames carry their number as brightness."""
    rng = np.random.default_rng(frames)
    tokens = rng.dirichlet(np.full(frames + 1, 0.5), size=(layers, heads))  # (L, N, T+1)
    weights, seconds = tokens[..., 1:], np.arange(frames) / 8
    shown = [*evenly_spread(seconds), *moments(importance(weights), seconds)]
    return Explanation(
        video=video,
        model="models/vtn: test_resnet",
        prediction=Prediction((label, "walk"), (0.9, 0.1), frames, frames, frames / 8),
        seconds=seconds,
        weights=weights,
        itself=tokens[..., 0],
        deletion=deletion(frames, layers, label) if frames > 2 else None,
        pictures={int(frame): np.full((24, 24, 3), 55 + frame % 200, np.uint8) for frame in shown},
    )


def deletion(frames, layers, label):
    removed = np.unique(np.rint(np.arange(1, 10) / 10 * frames).clip(1, frames - 1).astype(int))
    falling = 0.9 - 0.5 * removed / frames
    return Deletion(
        label=label,
        frames=frames,
        whole=0.9,
        removed=removed,
        highest=falling - 0.2,
        lowest=falling + 0.05,
        layers=np.tile(falling - 0.1, (layers, 1)),
        random=falling + np.linspace(-0.1, 0.1, 40)[:, None],
    )


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, in order."""
    kept = []
    save = figures.save
    monkeypatch.setattr(figures, "save", lambda figure, path: kept.append(figure) or save(figure, path))
    return kept


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


@pytest.mark.parametrize("frames", [1, 2, 3, 40, 3000])
def test_a_page_of_any_length_is_a_picture_of_one_width(frames, tmp_path):
    path = page.draw(explanation(frames), path=tmp_path / "new folder" / "page.png")
    picture = cv2.imread(str(path))
    assert [file.name for file in path.parent.iterdir()] == ["page.png"]
    assert 1400 < picture.shape[1] < 1600
    assert 650 < picture.shape[0] < 1600
    assert picture.std() > 10
    assert (picture[:5] == 255).all() and (picture[:, -5:] == 255).all(), "nothing is cut off"


def test_a_page_says_what_was_seen_and_what_the_check_found(tmp_path, drawn):
    found = explanation(40)
    page.draw(found, path=tmp_path / "page.png")
    said = texts(drawn[0]).replace("\n", " ")
    for text in ("run 0.90", "clip.avi · 40 frames of 5 s", "models/vtn", "layer 2", *found.words):
        assert text in said
    page.draw(explanation(2), path=tmp_path / "page.png")
    assert "No deletion check: it needs at least 3 different frames, not 2." in texts(drawn[1])


def test_a_long_video_shows_means_of_runs_of_frames_and_keeps_the_sum(tmp_path, drawn):
    weights = np.random.default_rng(0).random((2, 3000))
    edges, means = page.binned(np.arange(3001.0), weights)
    assert means.shape == (2, page.BARS_AT_MOST) and len(edges) == page.BARS_AT_MOST + 1
    assert (means * np.diff(edges)).sum(axis=1) == pytest.approx(weights.sum(axis=1))
    page.draw(explanation(3000), path=tmp_path / "page.png")
    assert "seconds, one bar the mean of about 8 frames" in texts(drawn[0])


def test_same_explanation_same_bytes(tmp_path):
    one, other = (page.draw(explanation(5), path=tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert one == other
