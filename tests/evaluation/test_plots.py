import cv2
import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from vtn.evaluation import figures, plots
from vtn.evaluation.callouts import annotate

PROTOCOL = "8 frames x 1 view @ 64/64"
HISTORY = pd.DataFrame(
    {
        "epoch": range(4),
        "train_loss": [2.0, 1.5, 1.2, 1.1],
        "val_loss": [2.1, np.nan, 1.4, 1.3],
        "val_top1": [0.1, np.nan, 0.6, 0.5],
        "learning_rate": [2e-3, 1e-3, 5e-4, 0],
    }
)
ROWS = pd.DataFrame(
    {
        "label": ["frames=1", "frames=4", "frames=16", "uniform", "failed"],
        "top1": [0.2, 0.7, 0.9, 0.6, np.nan],
        "latency_ms_p50": [1.0, 3.0, 20.0, 3.1, 2.0],
    }
)
MATRIX = np.array([[7, 1, 0], [0, 0, 0], [0, 3, 4]])


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, in order."""
    kept = []
    save = figures.save
    monkeypatch.setattr(figures, "save", lambda figure, path: kept.append(figure) or save(figure, path))
    return kept


def draw_curves(path, history=HISTORY):
    return plots.training_curves(history, path=path, protocol=PROTOCOL, videos=200, classes=8)


def draw_confusion(path, matrix=MATRIX, names=("a", "$b$", "ü")):
    return plots.confusion_matrix(matrix, names, path=path, protocol=PROTOCOL)


def draw_speed(path, rows=ROWS, **further):
    return plots.accuracy_vs_speed(rows, path=path, protocol=PROTOCOL, videos=400, classes=8, **further)


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


@pytest.mark.parametrize(("draw", "videos"), [(draw_curves, 200), (draw_confusion, 15), (draw_speed, 400)])
def test_same_data_give_the_same_bytes_whatever_style_is_set(tmp_path, drawn, draw, videos):
    path = draw(tmp_path / "new folder" / "plot.png")
    assert path == tmp_path / "new folder" / "plot.png"
    assert [file.name for file in path.parent.iterdir()] == ["plot.png"]
    with matplotlib.rc_context({"font.size": 20, "figure.facecolor": "black"}):
        assert draw(tmp_path / "again.png").read_bytes() == path.read_bytes()
    assert b"Matplotlib" not in path.read_bytes()
    assert PROTOCOL in texts(drawn[0])
    assert f"{videos} videos" in texts(drawn[0])
    picture = cv2.imread(str(path))
    assert picture.std() > 10
    assert (picture[:5] == 255).all()
    assert (picture[:, -5:] == 255).all(), "nothing is cut off"


def test_a_failed_write_leaves_the_old_picture(tmp_path, monkeypatch):
    path = draw_confusion(tmp_path / "plot.png")
    before = path.read_bytes()

    def broken(self, target, **_):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        draw_confusion(path, matrix=MATRIX * 2)
    assert path.read_bytes() == before


def test_curves_show_whole_accuracy_scale_chance_and_best_epoch(tmp_path, drawn):
    draw_curves(tmp_path / "plot.png")
    loss, top1, rate = drawn[0].axes
    assert loss.get_ylim()[0] == 0
    assert top1.get_ylim() == (0, 1)
    assert rate.get_xlabel() == "epoch"
    assert "chance 0.125" in texts(top1)
    assert "best: 0.600 in epoch 2" in texts(top1)
    assert loss.lines[1].get_xdata().tolist() == [0, 2, 3], "epochs without validation are skipped"


def test_curves_draw_what_the_history_has(tmp_path, drawn):
    draw_curves(tmp_path / "plot.png", HISTORY[["epoch", "train_loss"]].head(1))
    assert [axes.get_ylabel() for axes in drawn[0].axes] == ["loss"]
    draw_curves(tmp_path / "plot.png", HISTORY.assign(val_top1=np.nan))
    assert [axes.get_ylabel() for axes in drawn[1].axes] == ["loss", "learning rate"]


@pytest.mark.parametrize("history", [HISTORY[["epoch"]], HISTORY[["train_loss"]], HISTORY.head(0)])
def test_a_history_with_nothing_to_draw_is_refused(tmp_path, history):
    with pytest.raises(ValueError, match="needs numbers in epoch and in one of train_loss"):
        draw_curves(tmp_path / "plot.png", history)
    assert not list(tmp_path.iterdir())


def test_confusion_colours_shares_of_rows_and_writes_counts(tmp_path, drawn):
    draw_confusion(tmp_path / "plot.png")
    shares = drawn[0].axes[0].images[0].get_array()
    np.testing.assert_allclose(shares.filled(np.nan)[[0, 2]], [[7 / 8, 1 / 8, 0], [0, 3 / 7, 4 / 7]])
    assert shares.mask[1].all()
    written = {text.get_position(): text.get_text() for text in drawn[0].axes[0].texts}
    assert written[(1, 2)] == "3", "column 1 of row 2"
    assert written[(1, 1)] == "0", "a class without hits shows its zero"
    assert (0, 2) not in written
    assert "top-1 0.733 · classes without videos (grey): 1" in texts(drawn[0])
    assert "$b$" in texts(drawn[0])


def test_confusion_stays_readable_from_2_to_400_classes(tmp_path, drawn):
    for classes in (2, 40, 400):
        matrix = np.eye(classes, dtype=int)
        path = draw_confusion(
            tmp_path / "plot.png", matrix, [f"an overlong name for the class {i}" for i in range(classes)]
        )
        assert max(cv2.imread(str(path)).shape) < 2000
    few, some, many = (figure.axes[0] for figure in drawn)
    assert "an overlong na…r the class 1" in texts(few)
    assert len([text for text in few.texts if text.get_text().isdigit()]) == 2
    assert not [text for text in some.texts if text.get_text().isdigit()]
    assert "class 39" in texts(some)
    assert "class 1" not in texts(many)


@pytest.mark.parametrize(("matrix", "names"), [(MATRIX, "ab"), (MATRIX[:2], "abc"), (MATRIX * 0, "abc")])
def test_a_confusion_that_does_not_fit_its_names_or_is_empty_is_refused(tmp_path, matrix, names):
    with pytest.raises(ValueError, match=r"must be \(K, K\) with at least one video"):
        draw_confusion(tmp_path / "plot.png", matrix, names)


def test_speed_joins_the_front_in_steps_and_counts_what_is_not_drawn(tmp_path, drawn):
    draw_speed(tmp_path / "plot.png")
    (axes,) = drawn[0].axes
    others, front = (collection.get_offsets().tolist() for collection in axes.collections)
    assert front == [[1, 0.2], [3, 0.7], [20, 0.9]]
    assert others == [[3.1, 0.6]]
    assert axes.lines[0].get_xydata().tolist() == [[1, 0.2], [3, 0.2], [3, 0.7], [20, 0.7], [20, 0.9]]
    assert axes.get_ylim() == (0, 1)
    assert "rows without a number, not drawn: 1" in texts(axes)
    assert "uniform" in texts(axes)
    assert "failed" not in texts(axes)


def test_cost_is_logarithmic_beyond_ten_times_and_starts_at_zero_below(tmp_path, drawn):
    draw_speed(tmp_path / "plot.png")
    draw_speed(tmp_path / "plot.png", ROWS.assign(gmacs=[1, 2, 10, 2, 2]), cost="gmacs")
    (wide,), (narrow,) = (figure.axes for figure in drawn)
    assert wide.get_xscale() == "log"
    assert narrow.get_xscale() == "linear"
    assert narrow.get_xlim()[0] == 0
    assert "multiply-adds" in narrow.get_xlabel()


def test_of_speed_more_is_better(tmp_path, drawn):
    rows = ROWS.assign(clips_per_second=[90, 30, 20, 29, 40])
    draw_speed(tmp_path / "plot.png", rows, cost="clips_per_second")
    (axes,) = drawn[0].axes
    others, front = (collection.get_offsets().tolist() for collection in axes.collections)
    assert front == [[90, 0.2], [30, 0.7], [20, 0.9]]
    assert others == [[29, 0.6]]
    assert axes.lines[0].get_xydata().tolist() == [[90, 0.2], [30, 0.2], [30, 0.7], [20, 0.7], [20, 0.9]]
    assert axes.get_xlabel().endswith("more is better")
    with pytest.raises(ValueError, match="no column 'clips_per_second'"):
        draw_speed(tmp_path / "plot.png", cost="clips_per_second")


def test_speed_without_a_complete_row_or_column_is_refused(tmp_path):
    with pytest.raises(ValueError, match="none of the 1 rows has both top1 and latency_ms_p50"):
        draw_speed(tmp_path / "plot.png", ROWS.tail(1))
    with pytest.raises(ValueError, match="no column 'gmacs'"):
        draw_speed(tmp_path / "plot.png", cost="gmacs")


def test_labels_hide_neither_points_nor_each_other_and_needed_ones_are_never_left_out():
    rng = np.random.default_rng(0)
    x, y = rng.random(40), rng.random(40)
    axes = Figure().subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    needed = np.arange(40) < 5
    annotate(axes, x=x, y=y, texts=[f"label {i}" for i in range(40)], needed=needed)
    notes = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text()}
    assert {f"label {i}" for i in range(5)} <= set(notes)
    assert 10 < len(notes) < 40
    boxes = list(notes.values())
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    points = axes.transData.transform(np.column_stack([x, y]))
    assert not any(box.contains(*point) for box in boxes for point in points)
