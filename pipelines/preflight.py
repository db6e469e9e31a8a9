"""What `make repro` asks before DVC does: DVC's own messages name neither the key nor the remedy."""

from pathlib import Path

from vtn import config
from vtn.command import run_stage
from vtn.sections import Params

TABLES = Path("pipelines/ablations")


def preflight(params: Params) -> None:
    """Raise ValueError where params.yaml, just loaded, names tables or videos that are not there."""
    config.check_tables(params, TABLES)
    if params.dataset.name == "folder":
        from vtn.data.sources import folder

        folder.check(params.dataset.folder)


if __name__ == "__main__":
    run_stage(preflight)
