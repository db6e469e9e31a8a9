"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes is the machine's business, and a busy one must not fail a test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# Two threads of tiny matrices spend more time meeting each other than computing.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips, weights and goldens that lies beside a full checkout."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (real clips, weights, goldens), which this checkout lacks")
    return folder
