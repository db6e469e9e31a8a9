import pytest

from pipelines.preflight import preflight
from vtn.config import with_overrides
from vtn.sections import Params


def test_what_dvc_would_tell_badly_is_told_before():
    preflight(Params())
    with pytest.raises(ValueError, match=r"dataset\.folder: nowhere is not a folder"):
        preflight(with_overrides(Params(), {"dataset.name": "folder", "dataset.folder": "nowhere"}))
    with pytest.raises(ValueError, match=r"ablate\.tables: .*dept\.yaml not found; did you mean depth"):
        preflight(with_overrides(Params(), {"ablate.tables": ["dept"]}))
