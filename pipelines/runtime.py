"""The table `runtime`: python -m pipelines.runtime -> reports/runtime.csv. No DVC stage: `make baselines` first."""

import argparse
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from vtn import config, device, identity
from vtn.command import add_debug, add_params, explained
from vtn.evaluation.benchmark import device_name
from vtn.runtime import contenders, table
from vtn.sections import Params

WORK = Path("work/runtime")
REPORT = Path("reports/runtime.csv")
MIN_FRAMES = 8  # what SlowFast's slow pathway and I3D's pooling leave something of
SHOWN = [
    "row", "protocol", "seconds", "seconds_ratio", "paper_minutes_ratio", "gmacs", "gmacs_ratio", "paper_gmacs",
    "paper_gmacs_ratio", "peak_memory_mb", "parameters_m", "paper_parameters_m",
]  # fmt: skip


def measure(params: Params, *, rows: list[str] | None, frames: int, repeats: int) -> None:
    """Measure what is missing of the chosen rows, then write and print all that this device and code have."""
    if frames < MIN_FRAMES or repeats < 1:
        raise ValueError(f"--frames {frames} --repeats {repeats}: at least {MIN_FRAMES} frames and 1 repeat")
    chosen = contenders.choose(rows, frames)
    contenders.check_installed(chosen)
    chip = device.choose(params.machine)
    name = device_name(chip)
    facts = {"frames": frames, "repeats": repeats, "device": name, "torch": torch.__version__}
    directory = WORK / identity.content_key({**facts, "code": identity.code_hash()})

    def in_own_process(row: contenders.Row) -> dict[str, float]:
        found: dict[str, float] = table.apart(partial(table.measure, row, device=chip, repeats=repeats))
        return found

    table.fill(chosen, directory=directory, measure=in_own_process)
    results = table.read(contenders.rows(frames), directory=directory, device=name)
    if results.empty:
        return
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    results.to_csv(REPORT, index=False, float_format="%.6g")
    with pd.option_context("display.width", None):
        print(results[SHOWN].to_string(index=False, na_rep="", float_format="{:.2f}".format))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=measure.__doc__)
    parser.add_argument(
        "--rows", nargs="+", metavar="ROW", help="rows (MODEL.whole, MODEL.views) or models; all"
    )
    parser.add_argument("--frames", type=int, default=contenders.FRAMES, help="of a whole video (250)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed passes of a row, after one to warm up (3)"
    )
    add_params(parser)
    add_debug(parser)
    options = parser.parse_args()
    with explained(debug=options.debug):
        params = config.load(options.params, options.overrides)
        measure(params, rows=options.rows, frames=options.frames, repeats=options.repeats)


if __name__ == "__main__":
    main()
