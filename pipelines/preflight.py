"""What `make repro` asks before DVC does: DVC's own messages name neither the key nor the remedy."""

from pathlib import Path

from vtn import config
from vtn.command import run_stage
from vtn.sections import Params

TABLES = Path("pipelines/ablations")


def preflight(params: Params) -> None:
    """Raise ValueError where params.yaml, just loaded, names tables, videos or parts of a model that are not there."""
    config.check_tables(params, TABLES)
    if params.dataset.name == "folder":
        from vtn.data.sources import folder

        folder.list_folder(params.dataset.folder, params.dataset.annotations)
    _try_model(params)


def _try_model(params: Params) -> None:
    """Build what will be trained, and forget it: training would refuse it too, but after hours of decoding."""
    from vtn.model.vtn import build
    from vtn.training.optimiser import build_optimizer

    model = build(params.model, num_classes=2, crop=params.clip.crop)  # whatever the classes are
    build_optimizer(model, params.train)


if __name__ == "__main__":
    run_stage(preflight)
