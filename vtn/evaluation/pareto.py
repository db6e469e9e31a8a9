"""Which rows give the most accuracy for what they cost."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def pareto_front(rows: pd.DataFrame, *, maximise: Sequence[str], minimise: Sequence[str] = ()) -> np.ndarray:
    """Mask (R,) of the rows that no other row beats: none is as good in all these columns and better in one.

    Equal rows stay or fall together; a row that lacks one of the numbers is never on the front.
    Raises ValueError where a column is missing.
    """
    for column in (*maximise, *minimise):
        if column not in rows.columns:
            raise ValueError(f"no column {column!r} to compare rows by; there are {', '.join(rows.columns)}")
    gains = np.hstack([rows[[*maximise]].to_numpy(float), -rows[[*minimise]].to_numpy(float)])  # (R, columns)
    known = np.isfinite(gains).all(axis=1)
    # Entry [i, j]: row j beats row i. Comparisons with NaN are false, so unknown rows beat none.
    as_good = (gains >= gains[:, None]).all(axis=2)
    better = (gains > gains[:, None]).any(axis=2)
    front: np.ndarray = known & ~(known & as_good & better).any(axis=1)
    return front
