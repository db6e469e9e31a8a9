"""Which rows give the most accuracy for what they cost."""

import numpy as np
import pandas as pd


def pareto_front(
    rows: pd.DataFrame, *, maximise: str = "top1", minimise: str = "latency_ms_p50"
) -> np.ndarray:
    """Mask (rows,) of the rows that no other row beats: none is as good in both columns and better in one.

    Equal rows stay or fall together; a row that lacks one of the two numbers is never on the front.
    Raises ValueError where a column is missing.
    """
    for column in (maximise, minimise):
        if column not in rows.columns:
            raise ValueError(f"no column {column!r} to compare rows by; there are {', '.join(rows.columns)}")
    gain = rows[maximise].to_numpy(float)
    cost = rows[minimise].to_numpy(float)
    known = np.isfinite(gain) & np.isfinite(cost)
    # Entry [i, j]: row j beats row i. Comparisons with NaN are false, so unknown rows beat none.
    as_good = (gain >= gain[:, None]) & (cost <= cost[:, None])
    better = (gain > gain[:, None]) | (cost < cost[:, None])
    front: np.ndarray = known & ~(known & as_good & better).any(axis=1)
    return front
