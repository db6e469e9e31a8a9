import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtn.evaluation.pareto import pareto_front


def front(rows):
    return pareto_front(rows, maximise=["top1"], minimise=["latency_ms_p50"]).tolist()


def frame(*rows):
    return pd.DataFrame(rows, columns=["top1", "latency_ms_p50"], dtype=float)


def test_front_of_a_case_worked_out_by_hand():
    rows = frame((0.9, 10), (0.8, 5), (0.8, 6), (0.7, 5), (0.95, 50), (0.95, 50), (0.2, 1))
    assert front(rows) == [True, True, False, False, True, True, True]


def test_a_row_without_a_number_is_not_on_the_front_and_beats_no_other():
    rows = frame((np.nan, 1), (0.5, 10), (0.9, np.nan), (np.inf, 1), (0.4, -np.inf))
    assert front(rows) == [False, True, False, False, False]


def test_columns_can_be_chosen_and_must_exist():
    rows = pd.DataFrame({"top5": [0.5, 0.6], "gmacs": [1.0, 1.0]})
    assert pareto_front(rows, maximise=["top5"], minimise=["gmacs"]).tolist() == [False, True]
    assert pareto_front(rows, maximise=["top5", "gmacs"]).tolist() == [False, True]
    assert pareto_front(rows, maximise=[], minimise=["gmacs", "top5"]).tolist() == [True, False]
    with pytest.raises(ValueError, match="no column 'top1' to compare rows by; there are top5, gmacs"):
        pareto_front(rows, maximise=["top1"])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=20))
def test_agrees_with_the_definition_row_by_row(points):
    expected = [not any(a2 >= a and c2 <= c and (a2 > a or c2 < c) for a2, c2 in points) for a, c in points]
    assert front(frame(*points)) == expected
