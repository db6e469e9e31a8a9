import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtn.evaluation import metrics


def random_predictions(videos, classes, seed=0, levels=None):
    """Probabilities that follow the labels somewhat; few `levels` make ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, videos)
    weights = rng.random((videos, classes)) + 0.5 * np.eye(classes)[labels]
    if levels:
        weights = np.floor(weights * levels) + 1
    return weights / weights.sum(axis=1, keepdims=True), labels


def test_numbers_of_a_case_worked_out_by_hand():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4], [0.9, 0.1, 0.0]])
    result = metrics.classification(probabilities, np.array([0, 2, 2, 0]), annotated=5)
    assert result["top1"] == 0.75
    assert result["top5"] == 1.0
    assert result["coverage"] == 0.8
    assert result["top1_missing_as_wrong"] == 0.6
    assert result["nll"] == pytest.approx(-math.log(0.7 * 0.4 * 0.4 * 0.9) / 4)
    # Confidences 0.7, 0.5, 0.4, 0.9 fall into four bins, hit, miss, hit, hit.
    assert result["calibration_error"] == pytest.approx((0.3 + 0.5 + 0.6 + 0.1) / 4)
    assert (result["videos"], result["annotated"]) == (4, 5)


@pytest.mark.parametrize("classes", [2, 4, 6, 40])
def test_agrees_with_scikit_learn(classes):
    from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

    probabilities, labels = random_predictions(300, classes)
    result = metrics.classification(probabilities, labels, annotated=300)
    names = np.arange(classes)
    assert result["top1"] == pytest.approx(accuracy_score(labels, probabilities.argmax(axis=1)))
    assert result["nll"] == pytest.approx(log_loss(labels, probabilities, labels=names))
    if classes > 5:
        assert result["top5"] == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5, labels=names))
    else:
        assert result["top5"] == 1.0


@settings(max_examples=60)
@given(
    videos=st.integers(1, 40), classes=st.integers(2, 9), levels=st.integers(1, 4), seed=st.integers(0, 999)
)
def test_ties_go_to_the_lowest_class_in_every_metric(videos, classes, levels, seed):
    probabilities, labels = random_predictions(videos, classes, seed, levels)
    result = metrics.classification(probabilities, labels, annotated=videos)
    best_first = np.argsort(-probabilities, axis=1, kind="stable")
    assert result["top1"] == np.mean(best_first[:, 0] == labels)
    assert result["top5"] == np.mean((best_first[:, :5] == labels[:, None]).any(axis=1))
    assert np.trace(metrics.confusion(probabilities, labels)) == round(result["top1"] * videos)


@settings(max_examples=60)
@given(data=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_calibration_error_agrees_with_the_definition_bin_by_bin(data):
    confidence, correct = np.array([c for c, _ in data]), np.array([hit for _, hit in data])
    expected = 0.0
    for m in range(1, 16):
        lower, upper = (m - 1) / 15, m / 15
        inside = (confidence > lower) & (confidence <= upper) | ((m == 1) & (confidence == 0))
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    # A confidence within rounding of an edge may fall on either side of it.
    if np.abs(confidence * 15 - np.round(confidence * 15)).min() > 1e-9:
        assert metrics.expected_calibration_error(confidence, correct) == pytest.approx(expected, abs=1e-9)


def test_certain_and_right_is_calibrated_certain_and_wrong_is_not():
    certain = np.eye(3)[[0, 1, 2, 0]]
    right = metrics.classification(certain, np.array([0, 1, 2, 0]), annotated=4)
    wrong = metrics.classification(certain, np.array([1, 2, 0, 1]), annotated=4)
    assert (right["calibration_error"], wrong["calibration_error"]) == (0.0, 1.0)
    assert right["nll"] == 0.0
    assert 300 < wrong["nll"] < math.inf


def test_a_float32_underflow_keeps_the_loss_finite():
    result = metrics.classification(np.array([[1, 0]], np.float32), np.array([1]), annotated=1)
    assert result["nll"] == pytest.approx(-math.log(np.finfo(np.float32).tiny))


def test_per_class_shows_undefined_shares_as_nan():
    probabilities = np.eye(4)[[0, 0, 1, 1, 2]]
    table = metrics.per_class(probabilities, np.array([0, 0, 0, 1, 1]), ["a", "b", "c", "d"])
    assert list(table.columns) == ["class", "videos", "precision", "recall", "f1"]
    assert table["videos"].tolist() == [3, 2, 0, 0]
    np.testing.assert_allclose(table["precision"], [1, 0.5, 0, np.nan])
    np.testing.assert_allclose(table["recall"], [2 / 3, 0.5, np.nan, np.nan])
    np.testing.assert_allclose(table["f1"], [0.8, 0.5, 0, np.nan])


def test_confusion_has_true_classes_in_rows_and_unseen_classes_too():
    probabilities = np.eye(4)[[1, 1, 0]]
    matrix = metrics.confusion(probabilities, np.array([0, 0, 2]))
    assert matrix.shape == (4, 4)
    assert matrix[0, 1] == 2
    assert matrix[2, 0] == 1
    assert matrix.sum() == 3
    assert np.issubdtype(matrix.dtype, np.integer)


GOOD = np.full((2, 4), 0.25)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.zeros((0, 4)), np.zeros(0, int), "no video was evaluated"),
        (GOOD, np.array([0]), r"shape \(2, 4\) and labels of shape \(1,\)"),
        (GOOD[0], np.array([0]), r"must be \(V, K\) and \(V,\)"),
        (GOOD, np.array([0, 4]), r"labels: row 1 is 4, .* must be in 0..3"),
        (GOOD, np.array([-1, 0]), r"labels: row 0 is -1"),
        (GOOD, np.array([0.0, 1.0]), "must be floats and integers"),
        (
            np.array([[0.5, 0.5], [np.nan, 0.5]]),
            np.array([0, 1]),
            "probabilities: row 1 is .*nan.*must be finite",
        ),
        (np.array([[2.0, -1.0]]), np.array([0]), "softmax"),
        (np.array([[3.0, 1.0]]), np.array([0]), "sum to 1"),
    ],
)
@pytest.mark.parametrize("function", ["classification", "per_class", "confusion"])
def test_wrong_input_is_refused_with_the_row_and_the_rule(function, probabilities, labels, message):
    further = {"classification": {"annotated": 9}, "per_class": {"class_names": "abcd"}, "confusion": {}}
    with pytest.raises(ValueError, match=message):
        getattr(metrics, function)(probabilities, labels, **further[function])


def test_fewer_annotated_than_evaluated_is_refused():
    with pytest.raises(ValueError, match="annotated: 1 is less than the 2 videos evaluated"):
        metrics.classification(GOOD, np.array([0, 1]), annotated=1)


def test_names_must_fit_the_classes():
    with pytest.raises(ValueError, match="class_names: 3 names for probabilities of 4 classes"):
        metrics.per_class(GOOD, np.array([0, 1]), ["a", "b", "c"])


def test_classification_does_not_pay_for_scikit_learn():
    code = (
        "import sys, numpy; from vtn.evaluation import metrics;"
        "metrics.classification(numpy.ones((1, 1)), numpy.zeros(1, int), annotated=1);"
        "sys.exit('sklearn' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
