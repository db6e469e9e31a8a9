"""A run's directory: begun once, kept through an interruption, whole when metrics.json is there."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from vtn import experiment, identity, keys, runs
from vtn.sections import DatasetConfig, MachineConfig, Params, TrackingConfig

PARAMS = Params(machine=MachineConfig(device="cpu"))
CORPUS = SimpleNamespace(fingerprint="ab" * 32)
FACTS = {"kind": "ablation", "name": "depth: 1 layer", "parent": "u1", "row": "1 layer"}


class Experiments:
    """Stands for `experiment`: counts runs, and may die in one of them."""

    def __init__(self, *, dies=False):
        self.works, self.dies = [], dies

    def fit_key(self, params, corpus, *, trained_backbone):
        return f"key-{params.seed}"

    def run(self, params, corpus, *, work, on_epoch, trained_backbone):
        self.works.append(work)
        on_epoch([{"epoch": 1, "val_top1": 0.25}])
        if self.dies:
            raise KeyboardInterrupt
        return {"top1": 0.5, "protocol": "p"}


@pytest.fixture
def use(monkeypatch):
    def install(experiments):
        monkeypatch.setattr(experiment, "run", experiments.run)
        monkeypatch.setattr(keys, "fit_key", experiments.fit_key)
        return experiments

    return install


def record(tmp_path, synced, *, params=PARAMS, name="00"):
    return runs.record(
        tmp_path / name,
        params,
        CORPUS,
        fits=tmp_path / "fits",
        backbone=None,
        sync=synced.append,
        **FACTS,
    )


def test_a_new_run_says_who_it_is(tmp_path):
    run = runs.begin(tmp_path / "00", PARAMS, CORPUS, **FACTS)
    assert identity.read(tmp_path / "00") == json.loads(json.dumps(run))
    assert {key: run[key] for key in FACTS} == FACTS
    assert (run["experiment"], run["data"]["fingerprint"]) == ("motions", CORPUS.fingerprint)
    assert run["params"] == PARAMS.model_dump(mode="json")


def test_an_interrupted_run_keeps_its_identity(tmp_path):
    first = runs.begin(tmp_path, PARAMS, CORPUS, **FACTS)
    assert runs.begin(tmp_path, PARAMS, CORPUS, **{**FACTS, "name": "other"}) == json.loads(json.dumps(first))


def test_a_row_is_recorded_whole_and_synced_after_that(tmp_path, use):
    use(Experiments())
    seen = []
    numbers = runs.record(
        tmp_path / "00",
        PARAMS,
        CORPUS,
        fits=tmp_path / "fits",
        backbone=None,
        sync=lambda directory: seen.append(sorted(path.name for path in directory.iterdir())),
        **FACTS,
    )
    assert numbers == {"top1": 0.5, "protocol": "p"}
    assert seen == [["history.csv", "metrics.json", "run.json"]]
    assert json.loads((tmp_path / "00/metrics.json").read_text()) == numbers
    assert pd.read_csv(tmp_path / "00/history.csv").to_dict("records") == [{"epoch": 1, "val_top1": 0.25}]


def test_a_whole_row_is_not_run_again(tmp_path, use):
    experiments = use(Experiments())
    first, again = record(tmp_path, []), record(tmp_path, [])
    assert first == again and len(experiments.works) == 1


def test_an_interrupted_row_goes_on_under_the_same_identity_and_training(tmp_path, use):
    killed = use(Experiments(dies=True))
    synced = []
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path, synced)
    assert not (tmp_path / "00/metrics.json").exists() and not synced
    uid = identity.read(tmp_path / "00")["uid"]
    experiments = use(Experiments())
    record(tmp_path, synced)
    assert identity.read(tmp_path / "00")["uid"] == uid
    assert experiments.works == killed.works and len(synced) == 1


def test_rows_that_train_alike_share_one_training(tmp_path, use):
    experiments = use(Experiments())
    for name, seed in [("00", 0), ("01", 0), ("02", 1)]:
        record(tmp_path, [], params=PARAMS.model_copy(update={"seed": seed}), name=name)
    fits = tmp_path / "fits"
    assert experiments.works == [fits / "key-0", fits / "key-0", fits / "key-1"]


def test_the_experiment_is_named_by_the_user_or_after_the_data(tmp_path):
    folder = Params(dataset=DatasetConfig(name="folder", folder=tmp_path / "my clips"))
    assert runs.experiment_name(PARAMS) == "motions"
    assert runs.experiment_name(folder) == "my clips"
    named = folder.model_copy(update={"tracking": TrackingConfig(experiment="mine")})
    assert (runs.experiment_name(named), runs.data_name(named)) == ("mine", "my clips")


def test_what_cannot_go_on_is_told_of_and_removed(tmp_path):
    runs.begin(tmp_path / "kept", PARAMS, CORPUS, **FACTS)
    runs.begin(tmp_path / "old/rows/00", PARAMS, CORPUS, **FACTS)
    (tmp_path / "begun and nothing else").mkdir()
    ended = []
    runs.discard(
        tmp_path, keep=tmp_path / "kept", end=lambda directory: ended.append(identity.read(directory))
    )
    assert len(ended) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_table_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    runs.write_table(tmp_path / "results.csv", pd.DataFrame({"top1": [0.5]}))

    def full(table, path, **_):
        path.write_text("top")
        raise OSError("no space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(OSError, match="no space"):
        runs.write_table(tmp_path / "results.csv", pd.DataFrame({"top1": [0.75]}))
    assert pd.read_csv(tmp_path / "results.csv")["top1"].tolist() == [0.5]


def test_publishing_copies_the_record_and_not_the_state(tmp_path):
    work, report = tmp_path / "work", tmp_path / "reports/train"
    runs.begin(work, PARAMS, CORPUS, **FACTS)
    runs.write_history(work, [{"epoch": 1}])
    (work / "state.safetensors").touch()
    runs.publish(work, report)
    assert sorted(path.name for path in report.iterdir()) == ["history.csv", "run.json"]
