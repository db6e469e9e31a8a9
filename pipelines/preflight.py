"""What `make repro` asks before DVC does: DVC's own messages name neither the key nor the remedy."""

from pathlib import Path

from vtn import config, identity
from vtn.command import run_stage
from vtn.sections import Params

TABLES = Path("pipelines/ablations")
TRAINED = Path("reports/train")


def preflight(params: Params) -> None:
    """Raise ValueError where params.yaml, just loaded, names tables, videos or parts of a model that are not there."""
    config.check_tables(params, TABLES)
    if params.dataset.name == "folder":
        from vtn.data.sources import folder

        folder.list_folder(params.dataset.folder, params.dataset.annotations)
    if not _trained_before(params):
        _try_model(params)


def _trained_before(params: Params) -> bool:
    """Whether the last training was of this model by this recipe: what it needed may be gone since, unmissed."""
    if not (TRAINED / identity.RUN_FILE).is_file():
        return False
    trained, now = identity.read(TRAINED)["params"], params.model_dump(mode="json")
    return all(trained.get(section) == now[section] for section in ("model", "train"))


def _try_model(params: Params) -> None:
    """Build what will be trained, and forget it: training would refuse it too, but after hours of decoding."""
    from vtn.model.vtn import build
    from vtn.training.optimiser import build_optimizer

    model = build(params.model, num_classes=2, crop=params.clip.crop)  # whatever the classes are
    build_optimizer(model, params.train)


if __name__ == "__main__":
    run_stage(preflight)
