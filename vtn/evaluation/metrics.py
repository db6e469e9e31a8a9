"""Accuracy, calibration and confusion from the predicted probabilities of whole videos."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

CALIBRATION_BINS = 15
# Rounding in bf16 moves the sum of a softmax by up to half a percent; logits miss it by far more.
SUM_TOLERANCE = 0.02


def classification(probabilities: np.ndarray, labels: np.ndarray, *, annotated: int) -> dict[str, float]:
    """The numbers of one evaluation, light enough to compute each epoch.

    Args:
        probabilities: (V, K) predicted distribution of each evaluated video, 0-1, rows summing to 1.
        labels: (V,) true classes, integers in 0..K-1.
        annotated: videos in the split, those that could not be evaluated included; at least V.

    Returns:
        top1: share of the V videos whose most probable class is the true one.
        top5: share whose true class is among the min(5, K) most probable ones: 1 for up to five classes.
            Equal probabilities rank by class number, lowest first, in both.
        coverage: V / annotated.
        top1_missing_as_wrong: correct videos / annotated.
        calibration_error: see `expected_calibration_error`.
        nll: mean of -ln(probability of the true class); zero counts as the smallest normal number of the
            array's type, so that one underflow does not make the mean infinite.
        videos: V; annotated: as given.

    Raises:
        ValueError: shapes, labels or probabilities break the rules above, or there is no video.
    """
    probabilities, labels = _checked(probabilities, labels)
    videos = len(labels)
    if annotated < videos:
        raise ValueError(
            f"annotated: {annotated} is less than the {videos} videos evaluated; "
            "count every video of the split, evaluated or not"
        )
    rank = _rank_of_truth(probabilities, labels)
    correct = int((rank < 1).sum())
    truth = probabilities[np.arange(videos), labels]
    return {
        "top1": correct / videos,
        "top5": float((rank < min(5, probabilities.shape[1])).mean()),
        "coverage": videos / annotated,
        "top1_missing_as_wrong": correct / annotated,
        "calibration_error": expected_calibration_error(probabilities.max(axis=1), rank < 1),
        "nll": float(-np.log(np.maximum(truth, np.finfo(truth.dtype).tiny).astype(np.float64)).mean()),
        "videos": videos,
        "annotated": annotated,
    }


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """How far confidence is from accuracy: sum over the bins of |bin| / V * |accuracy - mean confidence|.

    `confidence` (V,) is the probability of the predicted class, `correct` (V,) says whether it is the true
    one. Bin m of 15 of equal width holds confidences in ((m - 1) / 15, m / 15].
    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, equations 2, 3 and 5.
    """
    confidence = confidence.astype(np.float64)
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    # |bin| cancels against the two means, which leaves the gap between two sums.
    gaps = np.bincount(bins, weights=correct - confidence)
    return float(np.abs(gaps).sum() / len(confidence))


def per_class(probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """One row a class: class, videos, precision, recall, f1.

    A share of nothing is NaN: recall of a class without videos, precision of one that is never predicted.
    Arguments and errors as in `classification`; `class_names` has K names in the order of the labels.
    """
    from sklearn.metrics import precision_recall_fscore_support  # 5 s of CPU, not for each epoch

    probabilities, labels = _checked(probabilities, labels)
    classes = probabilities.shape[1]
    if len(class_names) != classes:
        raise ValueError(f"class_names: {len(class_names)} names for probabilities of {classes} classes")
    precision, recall, f1, videos = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=np.arange(classes), zero_division=np.nan
    )
    return pd.DataFrame(
        {"class": list(class_names), "videos": videos, "precision": precision, "recall": recall, "f1": f1}
    )


def confusion(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts of videos, (K, K) int64: rows are true classes, columns predicted ones.

    Arguments and errors as in `classification`.
    """
    from sklearn.metrics import confusion_matrix  # 5 s of CPU, not for each epoch

    probabilities, labels = _checked(probabilities, labels)
    counts: np.ndarray = confusion_matrix(
        labels, probabilities.argmax(axis=1), labels=np.arange(probabilities.shape[1])
    )
    return counts


def _rank_of_truth(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes come before the true one, (V,): 0 where it is the argmax, as numpy breaks ties."""
    truth = probabilities[np.arange(len(labels)), labels][:, None]  # (V, 1)
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]  # (V, K)
    rank: np.ndarray = ((probabilities > truth) | ((probabilities == truth) & earlier)).sum(axis=1)
    return rank


def _checked(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays, or a ValueError that says what is wrong with them."""
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"probabilities of shape {probabilities.shape} and labels of shape {labels.shape}: "
            "must be (V, K) and (V,), one row and one label a video"
        )
    videos, classes = probabilities.shape
    if not videos:
        raise ValueError("no video was evaluated: see the manifest for why each was rejected")
    if not np.issubdtype(probabilities.dtype, np.floating) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"probabilities of {probabilities.dtype} and labels of {labels.dtype}: must be floats and integers"
        )
    _refuse("labels", labels, (labels < 0) | (labels >= classes), f"must be in 0..{classes - 1}")
    _refuse(
        "probabilities",
        probabilities,
        ~np.isfinite(probabilities).all(axis=1),
        "must be finite; training diverged?",
    )
    improper = (probabilities < 0).any(axis=1) | (abs(probabilities.sum(axis=1) - 1) > SUM_TOLERANCE)
    _refuse("probabilities", probabilities, improper, "must be >= 0 and sum to 1; apply a softmax to logits")
    return probabilities, labels


def _refuse(name: str, values: np.ndarray, wrong: np.ndarray, rule: str) -> None:
    """Raise ValueError that names the first wrong row, where there is one."""
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{name}: row {row} is {np.array2string(values[row], threshold=6)}, "
            f"one of {wrong.sum()} such rows; {rule}"
        )
