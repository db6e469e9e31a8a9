"""Where MLflow keeps runs, and what must be settled before mlflow is imported."""

import logging
import os
import re
import socket
import sqlite3
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from filelock import FileLock

STORE = Path("mlruns")
LOCK_SECONDS = 120
ASK_SECONDS = 3.0
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
KINDS = ("http://HOST:PORT", "sqlite:////PATH", "postgresql://...")
# By default mlflow repeats requests to a dead server for four minutes.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def uri() -> str:
    """The store's address: MLFLOW_TRACKING_URI, or the sqlite file of this repository."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database()}"


def database() -> Path:
    """The repository's own sqlite file."""
    return STORE.resolve() / "mlflow.db"


def artifacts(store: str) -> str | None:
    """Where a new experiment keeps its files; None leaves that to a server."""
    return (STORE / "artifacts").resolve().as_uri() if store.startswith("sqlite:") else None


def shown(text: str) -> str:
    """An address, or a text with one in it, without user and password."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def lock() -> FileLock:
    """Held by one process of this repository at a time."""
    STORE.mkdir(exist_ok=True)
    return FileLock(STORE / "lock", timeout=LOCK_SECONDS)


def quieten() -> None:
    """Bound mlflow's retries and silence its chatter, unless the user asked for something else."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("urllib3.connectionpool", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def problem(store: str) -> str:
    """Why the store cannot take runs now, "" if it can; asks it, within seconds and without mlflow."""
    parts = urlsplit(store)
    try:
        if parts.scheme == "sqlite":
            return _sqlite_problem(Path(store.removeprefix("sqlite:///")))
        if parts.scheme in ("http", "https"):
            with urlopen(f"{shown(store).rstrip('/')}/health", timeout=ASK_SECONDS):
                return ""
        dialect = parts.scheme.partition("+")[0]
        if dialect in PORTS:
            address = (parts.hostname or "localhost", parts.port or PORTS[dialect])
            socket.create_connection(address, timeout=ASK_SECONDS).close()
            return ""
    except (OSError, ValueError, sqlite3.Error, HTTPException) as error:
        return f"{error}"
    return f"MLflow no longer keeps runs in plain files; give {' or '.join(KINDS)}"


def _sqlite_problem(path: Path) -> str:
    if not path.exists():
        home = next(parent for parent in path.absolute().parents if parent.exists())
        return "" if os.access(home, os.W_OK) else f"{home} is not writable"
    if not os.access(path, os.W_OK):
        return f"{path} is not writable"
    with closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=ASK_SECONDS)
    ) as found:
        found.execute("SELECT version_num FROM alembic_version").fetchone()
    return ""
