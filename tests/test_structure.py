"""The shape of the project: import directions, stage dependencies, sizes and names."""

import ast
from pathlib import Path

import pytest
import stage_graph
import yaml
from import_graph import Import, all_imports, module_file, reached, sources

from vtn import config

ROOT = Path(__file__).parent.parent

# A line may import the lines above it; neighbours on a line never import each other.
LAYERS = (
    ("vtn.sections",),
    ("vtn.device", "vtn.identity", "vtn.rules"),
    ("vtn.config",),
    (
        "vtn.command",
        "vtn.data",
        "vtn.model",
        "vtn.params_text",
        "vtn.records",
        "vtn.study",
        "vtn.tracking_store",
    ),
    ("vtn.exchange", "vtn.presets", "vtn.training"),
    ("vtn.evaluation",),
    ("vtn.experiment", "vtn.keys", "vtn.predictor", "vtn.runtime"),
    ("vtn.explanation", "vtn.runs", "vtn.tracking"),
    ("vtn.backlog", "vtn.doctor", "vtn.ledger"),
    ("vtn.cli", "pipelines", "sweeps", "benchmarks"),
)

# Where a library may be imported: files, or folders with all that lies in them.
HOMES = {
    "av": ("vtn/data/", "vtn/doctor.py", "benchmarks/"),
    "dvc": (),
    "kornia": ("vtn/training/augmentation.py",),
    "mlflow": ("vtn/tracking.py",),
    "optuna": ("sweeps/",),
    "pytorchvideo": ("vtn/runtime/baselines.py",),
    "timm": ("vtn/model/backbone.py", "vtn/training/"),
    "transformers": ("vtn/runtime/baselines.py", "benchmarks/"),
}

MAX_LINES = 300
NAMES_THAT_SAY_NOTHING = ("utils", "helpers", "common", "misc")


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def layer_of(file):
    """The layer's name and the number of its line; a package's own __init__.py at the top has none."""
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for line, names in enumerate(LAYERS):
        for name in names:
            if f"{module}.".startswith(f"{name}."):
                return name, line
    return module, None


def wrong_direction(root: Path, item: Import) -> bool:
    target = module_file(root, item.name)
    if target is None or target == "vtn/__init__.py":
        return False
    (source, from_line), (layer, to_line) = layer_of(item.file), layer_of(target)
    return source != layer and (from_line is None or to_line is None or to_line >= from_line)


def back_imports(root):
    return [str(item) for item in all_imports(root) if wrong_direction(root, item)]


def stray_imports(root):
    return [
        f"{item}, which belongs in {' or '.join(homes) or 'no module'}"
        for item in all_imports(root)
        if (homes := HOMES.get(item.name.split(".")[0])) is not None and not item.file.startswith(homes)
    ]


def only_says_what_it_is(file):
    """Whether a module holds a docstring and nothing else, as the packages' __init__.py do."""
    return len(ast.parse(file.read_text(encoding="utf-8")).body) <= 1 and file.name == "__init__.py"


# They report what a stage found, and cannot change it: an edit of theirs repeats no stage.
REPORTERS = ("vtn/command.py", "vtn/records.py", "vtn/tracking.py", "vtn/tracking_store.py")


def missing_dependencies(root):
    return [
        f"dvc.yaml: stage {stage.name} does not list {file} (imported by {importer}) in its deps"
        for stage in stage_graph.stages(root)
        for module in stage.modules
        for file, importer in reached(root, module_file(root, module)).items()
        if not stage.covers(file) and file not in REPORTERS and not only_says_what_it_is(root / file)
    ]


def test_imports_go_one_way():
    assert back_imports(ROOT) == []


def test_every_module_of_vtn_has_a_layer():
    without = [file for file in sources(ROOT) if layer_of(file)[1] is None and file != "vtn/__init__.py"]
    assert without == [], "give them a line in LAYERS"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("vtn/data/clips.py", "from vtn.model import vtn"),
        ("vtn/data/clips.py", "from ..model.vtn import VTN"),
        ("vtn/model/vtn.py", "def late():\n    import vtn.data.clips"),
        ("vtn/sections.py", "from vtn import config"),
        ("vtn/experiment.py", "from vtn.tracking import sync"),
        ("vtn/command.py", "from vtn.data import clips"),
        ("vtn/training/loop.py", "import pipelines.train"),
        ("sweeps/run.py", "from pipelines import train"),
        ("vtn/__init__.py", "from vtn.sections import Params"),
    ],
)
def test_a_back_import_is_caught(tmp_path, file, text):
    names = ("data/clips", "model/vtn", "training/loop", "config", "sections", "experiment", "tracking")
    write(tmp_path, {f"vtn/{name}.py": "" for name in names} | {"pipelines/train.py": ""})
    write(tmp_path, {"sweeps/other.py": "from vtn.experiment import run\nfrom vtn import config"})
    assert back_imports(tmp_path) == []
    write(tmp_path, {file: text})
    assert len(back_imports(tmp_path)) == 1
    assert back_imports(tmp_path)[0].startswith(f"{file}:")


def test_a_library_is_imported_in_its_one_place():
    assert stray_imports(ROOT) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("vtn/experiment.py", "import mlflow.pyfunc"),
        ("vtn/model/vtn.py", "from timm import create_model"),
        ("vtn/cli.py", "def probe():\n    import av"),
        ("pipelines/ablate.py", "import optuna"),
        ("sweeps/run.py", "from dvc.api import params_show"),
    ],
)
def test_a_stray_library_is_caught(tmp_path, file, text):
    write(
        tmp_path, {"vtn/tracking.py": "import mlflow", "vtn/training/optimiser.py": "from timm import optim"}
    )
    assert stray_imports(tmp_path) == []
    write(tmp_path, {file: text})
    assert len(stray_imports(tmp_path)) == 1


def test_every_stage_lists_the_files_that_it_imports():
    assert missing_dependencies(ROOT) == []


def test_every_dependency_exists_or_is_made_by_a_stage():
    assert stage_graph.unknown_dependencies(ROOT, stage_graph.stages(ROOT)) == []


TREE = {
    "pipelines/__init__.py": "",
    "pipelines/train.py": "from vtn.training.loop import fit",
    "vtn/__init__.py": "",
    "vtn/training/__init__.py": "",
    "vtn/training/loop.py": "def fit():\n    from vtn import device",
    "vtn/device.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import vtn.unused",
    "vtn/unused.py": "",
}
DEPS = ["data/frames", "pipelines/__init__.py", "pipelines/train.py", "vtn/__init__.py", "vtn/training"]


def tree_with(root, deps):
    stage = {"cmd": "python -m pipelines.train ${item.table}", "deps": deps}
    templated = {
        "matrix": {"table": ["a"]},
        **stage,
        "outs": [{"reports/${item.table}.csv": {"cache": False}}],
    }
    repeated = {"foreach": ["a"], "do": {**stage, "outs": ["data/${item}"]}}
    return write(
        root, {**TREE, "dvc.yaml": yaml.safe_dump({"stages": {"ablate": templated, "each": repeated}})}
    )


def test_a_missing_dependency_is_named_for_each_stage(tmp_path):
    tree_with(tmp_path, [*DEPS, "${dataset.folder}"])
    assert missing_dependencies(tmp_path) == [
        f"dvc.yaml: stage {name} does not list vtn/device.py (imported by vtn/training/loop.py) in its deps"
        for name in ("ablate", "each")
    ]
    tree_with(tmp_path, [*DEPS, "vtn/device.py"])
    assert missing_dependencies(tmp_path) == []


def test_a_dependency_that_nothing_provides_is_named(tmp_path):
    tree_with(tmp_path, [*DEPS, "reports/x.csv", "${dataset.folder}", "vtn/gone.py"])
    found = stage_graph.unknown_dependencies(tmp_path, stage_graph.stages(tmp_path))
    assert len(found) == 2
    assert all("depends on vtn/gone.py" in problem for problem in found)


def test_the_params_that_stages_name_exist():
    named = {key for stage in stage_graph.stages(ROOT) for key in stage.params}
    assert named - set(config.known_keys()) == set()


def test_params_yaml_holds_every_key_and_no_other():
    known = config.known_keys()
    leaves = {key for key in known if not any(other.startswith(f"{key}.") for other in known)}
    assert set(config.flatten(yaml.safe_load((ROOT / "params.yaml").read_text()))) == leaves


def test_modules_stay_short():
    lengths = {file: len((ROOT / file).read_text().splitlines()) for file in sources(ROOT)}
    assert {file: lines for file, lines in lengths.items() if lines > MAX_LINES} == {}


def test_modules_are_named_by_what_they_hold():
    tests = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")]
    assert [file for file in [*sources(ROOT), *tests] if Path(file).stem in NAMES_THAT_SAY_NOTHING] == []


def test_the_lock_names_no_host():
    assert "://" not in (ROOT / "requirements.lock").read_text()
