"""Who a run is: params, commit, data, packages and machine, in one run.json beside its results."""

import hashlib
import json
import platform
import subprocess
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RUN_FILE = "run.json"
PACKAGES = ("torch", "timm", "kornia", "accelerate", "av", "optuna", "mlflow", "dvc", "numpy")


def code_hash() -> str:
    """sha256 over the source of `vtn`, by file name and content."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def content_key(facts: Mapping[str, Any]) -> str:
    """A short name for everything in `facts`: the same facts, the same key."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def describe(
    *, kind: str, name: str, experiment: str, params: Mapping[str, Any], data: Mapping[str, Any], device: str
) -> dict[str, Any]:
    """The identity of a run that starts now; `kind` is train, evaluation, ablation, study or trial."""
    return {
        "uid": uuid.uuid4().hex,
        "kind": kind,
        "name": name,
        "experiment": experiment,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "params": params,
        "data": data,
        "git": _git(),
        "code_sha256": code_hash(),
        "packages": {package: _version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "device": device,
    }


def write(directory: Path, run: Mapping[str, Any]) -> None:
    """Write run.json into `directory`, atomically."""
    partial = directory / f"{RUN_FILE}.partial"
    partial.write_text(json.dumps(run, indent=2, default=str) + "\n")
    partial.replace(directory / RUN_FILE)


def read(directory: Path) -> dict[str, Any]:
    """The run.json of a result directory; ValueError where there is none."""
    path = directory / RUN_FILE
    if not path.is_file():
        raise ValueError(f"{path} not found: {directory} holds no finished run")
    run: dict[str, Any] = json.loads(path.read_text())
    return run


def _git() -> dict[str, Any]:
    """Commit and dirty flag of the checkout, or null outside one; DVC itself writes dvc.lock."""
    commit = _git_output("rev-parse", "HEAD")
    changes = _git_output("status", "--porcelain", "--", ":!dvc.lock")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git_output(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
