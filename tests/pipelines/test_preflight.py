import pytest

from pipelines import preflight as preflights
from pipelines.preflight import preflight
from vtn import identity
from vtn.config import with_overrides
from vtn.sections import Params


@pytest.fixture(autouse=True)
def trained(tmp_path, monkeypatch):
    """Where the last training says what it was; nothing is there."""
    monkeypatch.setattr(preflights, "TRAINED", tmp_path)
    return tmp_path


def test_what_dvc_would_tell_badly_is_told_before():
    preflight(Params())
    with pytest.raises(ValueError, match=r"dataset\.folder: nowhere is not a folder"):
        preflight(with_overrides(Params(), {"dataset.name": "folder", "dataset.folder": "nowhere"}))
    with pytest.raises(ValueError, match=r"ablate\.tables: .*dept\.yaml not found; did you mean depth"):
        preflight(with_overrides(Params(), {"ablate.tables": ["dept"]}))


WRONG = {
    "model.backbone.name": ("test_resnett", "'test_resnett' is no timm model; did you mean test_resnet"),
    "model.backbone.options": ({"embed_dimm": 3}, "do not suit model.backbone.name: test_resnet"),
    "model.backbone.weights": ("absent.safetensors", "absent.safetensors not found"),
    "model.temporal.heads": (7, "7 does not divide the width 96"),
    "train.optimizer": ("adamv", "'adamv'.*did you mean adam"),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_model_that_cannot_be_built_is_told_before_anything_is_decoded(key):
    value, message = WRONG[key]
    params = with_overrides(Params(), {key: value})
    with pytest.raises(ValueError, match=message):
        preflight(params)


def test_a_model_that_was_trained_already_is_not_built_again(trained):
    params = with_overrides(Params(), {"model.backbone.weights": "gone.safetensors"})
    identity.write(trained, {"params": params.model_dump(mode="json")})
    preflight(params)
    with pytest.raises(ValueError, match=r"gone\.safetensors not found"):
        preflight(with_overrides(params, {"train.epochs": 3}))
