"""The `vtn` command. Imports of weight happen inside the verbs, so that help appears at once."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vtn.command import add_debug, add_params, explained
from vtn.config import PARAMS_FILE

if TYPE_CHECKING:
    from vtn.predictor import Prediction

MODEL, IMPORTED = Path("models/vtn"), Path("models/imported")
RUNS = (Path("reports"), Path("sweeps/results"))

PREDICT = """examples:
  vtn predict clips/*.mp4
  vtn predict --json --model models/vtn holiday.mov
  vtn predict --max-frames 100000 two_hours.mp4
  vtn predict -- -name-with-a-dash.mp4"""
EXPLAIN = """examples:
  vtn explain clip.mp4 --out page.png
  vtn explain --model models/vtn --max-frames 100 --json holiday.mov"""
DOCTOR = """examples:
  vtn doctor
  vtn doctor --json"""
LOG_RUNS = """examples:
  vtn log-runs
  vtn log-runs reports/ablations
  MLFLOW_TRACKING_URI=http://127.0.0.1:5000 vtn log-runs"""
USE = """examples:
  vtn use
  vtn use vit_b_vtn_3"""
LEDGER = """examples:
  vtn ledger
  vtn ledger --document docs/ledger.md"""
IMPORT = """examples:
  vtn import-checkpoint VTN_VIT_B_KINETICS.pyth --classes kinetics.txt
  vtn import-checkpoint r50.pyth --backbone resnet50 --heads 16 --window 18 --out models/r50"""
EXPORT = """examples:
  vtn export-checkpoint models/vtn --out vtn.pyth"""


def main(arguments: list[str] | None = None) -> None:
    """Run one verb; exit code 0 only where all that was asked succeeded."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.verb is None:
        parser.print_help()
        return
    with explained(debug=options.debug):
        succeeded: bool = options.run(options)
    if not succeeded:
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vtn", description="Video Transformer Network on your own videos.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")

    predict = _add(verbs, "predict", _predict, "name what happens in videos", PREDICT)
    predict.add_argument("videos", nargs="+", type=Path, metavar="VIDEO", help="video files")
    predict.add_argument(
        "--model", type=Path, default=MODEL, metavar="DIR", help="trained model (%(default)s)"
    )
    predict.add_argument(
        "--max-frames",
        type=_positive,
        metavar="N",
        help="most frames seen of one video (the model's own); evenly spread where it reads videos by time",
    )
    predict.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    predict.add_argument(
        "--top", type=_positive, default=5, metavar="N", help="classes to show (%(default)s)"
    )

    explain = _add(verbs, "explain", _explain, "draw what a video's answer looked at", EXPLAIN)
    explain.add_argument("video", type=Path, metavar="VIDEO", help="video file")
    explain.add_argument(
        "--out", type=Path, default=Path("explain.png"), metavar="PNG", help="picture to write (%(default)s)"
    )
    explain.add_argument(
        "--model", type=Path, default=MODEL, metavar="DIR", help="trained model (%(default)s)"
    )
    explain.add_argument(
        "--max-frames", type=_positive, metavar="N", help="most frames seen, evenly spread (the model's own)"
    )
    explain.add_argument("--json", action="store_true", help="print one JSON object instead of lines")

    doctor = _add(verbs, "doctor", _doctor, "look for what is wrong and how to mend it", DOCTOR)
    doctor.add_argument("--json", action="store_true", help="print one JSON list instead of lines")
    add_params(doctor)

    log_runs = _add(verbs, "log-runs", _log_runs, "upload runs that MLflow lacks", LOG_RUNS)
    places = " and ".join(map(str, RUNS))
    log_runs.add_argument(
        "directories", nargs="*", type=Path, metavar="DIR", help=f"where to look ({places})"
    )
    add_params(log_runs)

    use = _add(verbs, "use", _use, "write a model of the paper into params.yaml, or list them", USE)
    use.add_argument("preset", nargs="?", metavar="PRESET", help="its name (without: list them)")
    use.add_argument("--params", type=Path, default=PARAMS_FILE, help="the file to change (%(default)s)")

    ledger = _add(verbs, "ledger", _ledger, "set the paper's numbers beside ours", LEDGER)
    ledger.add_argument("--document", type=Path, metavar="FILE", help="also write the table into this page")
    _add_exchange(verbs)
    return parser


def _add_exchange(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The two verbs that exchange weights with the authors' release."""
    into = _add(verbs, "import-checkpoint", _import_checkpoint, "use a checkpoint of the release", IMPORT)
    into.add_argument("file", type=Path, metavar="FILE.pyth", help="the checkpoint")
    into.add_argument("--out", type=Path, default=IMPORTED, metavar="DIR", help="where to (%(default)s)")
    into.add_argument("--heads", type=_positive, metavar="N", help="attention heads of the temporal encoder")
    into.add_argument(
        "--window",
        type=_positive,
        nargs="+",
        metavar="N",
        help="attention window in frames, half on each side; or one number a layer",
    )
    into.add_argument("--backbone", metavar="NAME", help="timm model (without: a plain ViT, by its tensors)")
    into.add_argument("--classes", type=Path, metavar="FILE", help="text file of class names, one a line")
    into.add_argument(
        "--sampling",
        choices=["reference", "time"],
        default="reference",
        help="read videos as the release does, the first 10 s by frame number, or whole by time (%(default)s)",
    )

    back = _add(verbs, "export-checkpoint", _export_checkpoint, "write a model as the release does", EXPORT)
    back.add_argument("model", type=Path, metavar="DIR", help="trained or imported model")
    back.add_argument("--out", type=Path, required=True, metavar="FILE.pyth", help="the file to write")


def _add(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], bool],
    summary: str,
    examples: str,
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_debug(verb)
    verb.set_defaults(run=run)
    return verb


def _predict(options: argparse.Namespace) -> bool:
    """Answer for each video, or give the reason why not."""
    from vtn.device import choose
    from vtn.predictor import Predictor
    from vtn.sections import MachineConfig

    predictor = Predictor(options.model, choose(MachineConfig()), max_frames=options.max_frames)
    answers = []
    for video in options.videos:
        try:
            found = predictor.predict(video)
            answers.append(_answer(video, found, options.top))
            lines = _lines(video, found, options.top)
        except ValueError as error:
            answers.append({"video": str(video), "error": str(error)})
            lines = f"{video}\n  cannot be used: {error}"
        if not options.json:
            print(lines)
    if options.json:
        print(json.dumps(answers, indent=2, ensure_ascii=False))
    return not any("error" in answer for answer in answers)


def _answer(video: Path, found: "Prediction", top: int) -> dict[str, object]:
    return {
        "video": str(video),
        "label": found.labels[0],
        "probability": found.probabilities[0],
        "top": found.top(top),
        "frames": found.frames,
        "different_frames": found.different,
        "seconds": round(found.seconds, 3),
        "note": found.note,
    }


def _lines(video: Path, found: "Prediction", top: int) -> str:
    """One video's part of the table."""
    note = f"; {found.note}" if found.note else ""
    shown = found.top(top)
    width = max(map(len, shown))
    classes = [f"  {label:<{width}}  {probability:6.1%}" for label, probability in shown.items()]
    return "\n".join([f"{video} ({found.extent}{note})", *classes])


def _explain(options: argparse.Namespace) -> bool:
    """Draw the page and say what it shows."""
    from vtn.explanation import report

    return report.run(
        options.video,
        out=options.out,
        model=options.model,
        max_frames=options.max_frames,
        as_json=options.json,
    )


def _doctor(options: argparse.Namespace) -> bool:
    """Print one line a finding."""
    from dataclasses import asdict

    from vtn import doctor

    findings = []
    for finding in doctor.examine(options.params, options.overrides):
        findings.append(finding)
        if not options.json:
            print(finding, flush=True)
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    return all(finding.state != "fail" for finding in findings)


def _log_runs(options: argparse.Namespace) -> bool:
    """Upload every run found."""
    from vtn import config
    from vtn.backlog import upload_all

    tracking = config.load(options.params, options.overrides).tracking
    return upload_all(options.directories or RUNS, tracking, model=MODEL)


def _use(options: argparse.Namespace) -> bool:
    """Say what changed and how to go back."""
    from vtn import presets

    if options.preset is None:
        known = presets.known()
        width = max(map(len, known))
        print("\n".join(f"{name:<{width}}  {preset.summary}" for name, preset in known.items()))
        return True
    changes = presets.use(options.preset, options.params)
    print("\n".join(map(str, changes)) or f"{options.params} already says {options.preset}")
    if changes:
        print(
            f"{len(changes)} values changed; `git checkout {options.params}` brings back what was committed"
        )
    return True


def _ledger(options: argparse.Namespace) -> bool:
    """Print the table and leave reports/ledger.csv."""
    from vtn import ledger

    rows = ledger.table()
    ledger.write(rows, document=options.document)
    print(ledger.markdown(rows), end="")
    return True


def _import_checkpoint(options: argparse.Namespace) -> bool:
    """Say what the file holds, what was assumed and where it went."""
    from vtn import exchange

    asked = ("heads", "window", "backbone", "classes", "sampling")
    told = exchange.Told(**{name: getattr(options, name) for name in asked})
    print("\n".join(exchange.import_checkpoint(options.file, options.out, told)))
    return True


def _export_checkpoint(options: argparse.Namespace) -> bool:
    """Say what was written and what was left out."""
    from vtn import exchange

    print("\n".join(exchange.export_checkpoint(options.model, options.out)))
    return True


def _positive(text: str) -> int:
    """A whole number above zero, for argparse."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, at least 1")
    return int(text)


if __name__ == "__main__":
    main()
