"""What is wrong with an installation and a checkout, and how to mend it: `vtn doctor`."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from vtn import config, tracking_store
from vtn.sections import Params

DISTRIBUTION = "vtn-lab"
DATA, FRAMES, MODEL = Path("data"), Path("data/frames"), Path("models/vtn")
TABLES = Path("pipelines/ablations")
DECODERS = ("h264", "hevc", "av1", "vp9")
# The embedded data set with its frames, features and models stays below the first.
NEEDED_GB, COMFORTABLE_GB = 1.0, 10.0
REINSTALL = "run `make env`"

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the report; `remedy` is empty where nothing is wrong."""

    subject: str
    state: State
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state:<4}  {self.subject}: {self.text}" + (f"; {self.remedy}" if self.remedy else "")


def examine(params_file: Path = config.PARAMS_FILE, overrides: Sequence[str] = ()) -> Iterator[Finding]:
    """Every check in turn. One that breaks down is a finding too, and does not stop the others."""
    found, params = _params(params_file, overrides)
    yield found
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("ablations", lambda: _tables(params)),
        ("videos", lambda: _videos(params)),
        ("python", _python),
        ("packages", _packages),
        ("tools", _tools),
        ("device", _devices),
        ("video", _decoders),
        ("disk", _disk),
        ("tracking store", lambda: _tracking(params)),
        ("frame store", _frames),
        ("model", _model),
    )
    for subject, check in checks:
        try:
            yield from check()
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            yield Finding(subject, "fail", f"{type(error).__name__}: {_one_line(error)}", REINSTALL)


def _params(path: Path, overrides: Sequence[str]) -> tuple[Finding, Params]:
    try:
        params = config.load(path, overrides)
    except ValueError as error:
        return Finding("params", "fail", _one_line(error), f"mend {path}"), Params()
    return Finding("params", "ok", f"{path} is valid"), params


def _videos(params: Params) -> Iterator[Finding]:
    if params.dataset.name != "folder":
        return
    from vtn.data.sources import folder

    try:
        folder.check(params.dataset.folder)
    except ValueError as error:
        yield Finding("videos", "fail", str(error))
    else:
        yield Finding("videos", "ok", f"{params.dataset.folder} is there")


def _tables(params: Params) -> Iterator[Finding]:
    if not TABLES.is_dir():  # installed elsewhere, without the pipeline
        return
    try:
        config.check_tables(params, TABLES)
    except ValueError as error:
        yield Finding("ablations", "fail", str(error))
    else:
        yield Finding("ablations", "ok", ", ".join(params.ablate.tables) or "none")


def _python() -> Iterator[Finding]:
    found = platform.python_version()
    wanted = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    if SpecifierSet(wanted).contains(found):
        yield Finding("python", "ok", f"{found} at {sys.prefix}")
    else:
        yield Finding(
            "python", "fail", f"{found}, but {wanted} is required", f"install one of those, then {REINSTALL}"
        )


def _packages() -> Iterator[Finding]:
    wanted = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    wanted = [
        requirement for requirement in wanted if not requirement.marker or requirement.marker.evaluate()
    ]
    for requirement in wanted:
        found = _version(requirement.name)
        if found is None:
            yield Finding("packages", "fail", f"{requirement.name} is not installed", REINSTALL)
        elif not requirement.specifier.contains(found, prereleases=True):
            text = f"{requirement.name} is {found}, but {requirement.specifier} is required"
            yield Finding("packages", "fail", text, REINSTALL)
    shown = ", ".join(f"{name} {_version(name)}" for name in ("torch", "timm", "mlflow", "dvc", "optuna"))
    yield Finding("packages", "ok", f"{len(wanted)} looked at: {shown}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _tools() -> Iterator[Finding]:
    for tool in ("git", "dvc"):
        beside = Path(sys.executable).with_name(tool)
        if place := shutil.which(tool):
            yield Finding(tool, "ok", place)
        elif beside.exists():
            remedy = f"add {beside.parent} to PATH, or use the targets of make"
            yield Finding(tool, "warn", f"not on PATH, but at {beside}", remedy)
        else:
            remedy = REINSTALL if tool == "dvc" else "install it with the system's package manager"
            yield Finding(tool, "fail", "not on PATH", remedy)


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding(
        "cpu", "ok", f"{_cpu_name()}, {os.cpu_count()} threads, torch uses {torch.get_num_threads()}"
    )
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            bf16 = "with bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "without bf16"
            yield Finding("cuda", "ok", f"{card.name}, {card.total_memory / 2**30:.0f} GB, {bf16}")
    elif shutil.which("nvidia-smi"):
        text = f"there is a driver, but torch {torch.__version__} finds no device"
        yield Finding("cuda", "warn", text, f"look at `nvidia-smi`, then {REINSTALL}")
    else:
        yield Finding("cuda", "ok", "none: everything runs on the CPU")


def _cpu_name() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _decoders() -> Iterator[Finding]:
    import av

    missing = [name for name in DECODERS if not _has_decoder(name)]
    text = f"PyAV {av.__version__} with FFmpeg {av.ffmpeg_version_info}"
    if missing:
        remedy = f"videos of that codec will be rejected; {REINSTALL}"
        yield Finding("video", "warn", f"{text}, no decoder for {', '.join(missing)}", remedy)
    else:
        yield Finding("video", "ok", f"{text} decodes {', '.join(DECODERS)}")
    frames = _decoded_of_ten()
    if frames == 10:
        yield Finding("video", "ok", "a clip of 10 frames was written and read back")
    else:
        yield Finding("video", "fail", f"of a clip of 10 frames {frames} were read back", REINSTALL)


def _has_decoder(name: str) -> bool:
    import av

    try:
        av.Codec(name, "r")
    except ValueError:
        return False
    return True


def _decoded_of_ten() -> int:
    """Write ten H.264 frames and count those that come back."""
    import numpy as np

    from vtn.data.decoding import decode
    from vtn.data.sources.motions import encode

    pictures = np.zeros((10, 64, 64, 3), dtype=np.uint8)  # (T, H, W, C)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        path.write_bytes(encode(pictures, 25))
        return len(list(decode(path)))


def _disk() -> Iterator[Finding]:
    place = DATA if DATA.exists() else Path()
    free = shutil.disk_usage(place).free / 1e9
    text = f"{free:.1f} GB free where {DATA}/ lies"
    if free < NEEDED_GB:
        yield Finding("disk", "fail", text, f"free at least {NEEDED_GB:g} GB, for example with `dvc gc -w`")
    elif free < COMFORTABLE_GB:
        yield Finding("disk", "warn", text, "enough for the embedded data set, not for a large one")
    else:
        yield Finding("disk", "ok", text)


def _tracking(params: Params) -> Iterator[Finding]:
    if not params.tracking.enabled:
        yield Finding("tracking store", "ok", "tracking.enabled: false")
        return
    address = tracking_store.uri()
    if problem := tracking_store.problem(address):
        remedy = (
            "mend it or set MLFLOW_TRACKING_URI; until then runs stay on disk, `vtn log-runs` uploads them"
        )
        yield Finding("tracking store", "fail", f"{tracking_store.shown(address)}: {problem}", remedy)
    else:
        yield Finding("tracking store", "ok", tracking_store.shown(address))


def _frames() -> Iterator[Finding]:
    from vtn.data.frame_store import FrameStore

    if not FRAMES.exists():
        yield Finding("frame store", "warn", f"no {FRAMES} yet", "run `dvc repro decode`")
        return
    try:
        rows = FrameStore.open(FRAMES).manifest
    except ValueError as error:
        yield Finding("frame store", "fail", _one_line(error))
        return
    yield Finding("frame store", "ok", f"{FRAMES}: {rows['accepted'].sum()} of {len(rows)} videos usable")


def _model() -> Iterator[Finding]:
    from vtn.model.checkpoint import read_card

    if not MODEL.exists():
        yield Finding("model", "warn", f"no {MODEL} yet", "run `dvc repro train`")
        return
    try:
        card = read_card(MODEL)
    except ValueError as error:
        yield Finding("model", "fail", _one_line(error))
        return
    yield Finding("model", "ok", f"{MODEL}: {card.model.backbone.name}, {len(card.classes)} classes")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
