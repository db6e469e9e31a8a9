"""The table `runtime`: VTN in one pass beside models that average many views, as tables 6 and 7 of the paper."""

import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vtn.evaluation.benchmark import measure_pass
from vtn.runtime.contenders import PAPER, Published, Row

# Every ratio is to this row, as in the paper's abstract.
MODEL, KIND = "vit_b_vtn_1", "whole"


def measure(row: Row, *, device: torch.device, repeats: int) -> dict[str, float]:
    """One pass of the row's model on random frames, see `benchmark.measure_pass`."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # pytorchvideo scripts an activation when it is imported
        model = row.build().to(device)
    frames = torch.randn(1, row.frames, 3, row.crop, row.crop, device=device)
    return measure_pass(model, frames, repeats=repeats)


def apart(run: Callable[[], Any]) -> Any:
    """The result of `run` in a process of its own, so that memory is its own; MemoryError where it is killed."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(run).result()
        except BrokenProcessPool:
            raise MemoryError("its process was killed, as the system does when memory runs out") from None


def fill(chosen: Sequence[Row], *, directory: Path, measure: Callable[[Row], dict[str, float]]) -> None:
    """Measure the rows that have no file in `directory` yet; one that does not fit in memory is said and left out."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(chosen, start=1):
        path = directory / f"{row.name}.json"
        start = f"{number}/{len(chosen)} {row.name}: {row.protocol}: "
        if path.exists():
            print(f"{start}measured before", flush=True)
            continue
        print(start, end="", flush=True)
        try:
            found = measure(row)
        except (MemoryError, torch.OutOfMemoryError) as error:
            print(f"left out: {' '.join(str(error).split())[:200]}", flush=True)
            continue
        partial_file = path.with_suffix(".partial")
        partial_file.write_text(json.dumps(found))
        partial_file.replace(path)
        print(f"{row.views * found['latency_ms_p50'] / 1000:.2f} s a video", flush=True)


def read(known: Iterable[Row], *, directory: Path, device: str) -> pd.DataFrame:
    """The rows that `directory` has a file of: costs of one video, the paper's, and both over those of ViT-B-VTN
    with one layer.

    Columns: seconds and gmacs are those of a pass times the views; spread_seconds likewise, 95th less 5th
    percentile; peak_memory_mb is of one pass, as benchmark.measure explains it. A ratio is NaN until that row is
    measured, and a number of the paper's where it has none.
    """
    results = pd.DataFrame(
        [
            _result(row, json.loads(path.read_text()))
            for row in known
            if (path := directory / f"{row.name}.json").exists()
        ]
    )
    if results.empty:
        return results
    reference = results.set_index("row").reindex([f"{MODEL}.{KIND}"]).iloc[0]
    published = PAPER.get(MODEL)
    results["seconds_ratio"] = results["seconds"] / reference["seconds"]
    results["paper_minutes_ratio"] = results["paper_minutes"] / _number(published, f"{KIND}_minutes")
    results["gmacs_ratio"] = results["gmacs"] / reference["gmacs"]
    results["paper_gmacs_ratio"] = results["paper_gmacs"] / _number(published, f"{KIND}_gmacs")
    results["device"] = device
    return results


def _result(row: Row, found: dict[str, float]) -> dict[str, Any]:
    paper = PAPER.get(row.model)
    return {
        "row": row.name,
        "protocol": row.protocol,
        "seconds": row.views * found["latency_ms_p50"] / 1000,
        "spread_seconds": row.views * found["latency_ms_spread"] / 1000,
        "peak_memory_mb": found["peak_memory_mb"],
        "gmacs": row.views * found["gmacs"],
        "parameters_m": found["parameters"] / 1e6,
        "paper_minutes": _number(paper, f"{row.kind}_minutes"),
        "paper_gmacs": _number(paper, f"{row.kind}_gmacs"),
        "paper_parameters_m": _number(paper, "parameters_m"),
    }


def _number(paper: Published | None, name: str) -> float:
    value = getattr(paper, name, None)
    return float("nan") if value is None else float(value)
