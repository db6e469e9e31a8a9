"""MLflow as a view of run directories; the only import of mlflow.

A directory is complete without MLflow. `Tracker.sync` uploads what MLflow lacks of it, and may be
called after every epoch, at the end, or days later by `vtn log-runs`.
"""

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from vtn import records, tracking_store
from vtn.records import Record
from vtn.sections import TrackingConfig

UID, WEIGHTS = "vtn.uid", "vtn.sha256"
# What MLflow takes in one request, and the longest value of a param and of a tag that every store takes.
BATCH, EPOCHS_A_BATCH = 100, 50
PARAM_LENGTH, TAG_LENGTH, DIGEST_LENGTH = 6000, 5000, 36
MODEL_PACKAGES = (
    "av",
    "filelock",
    "mlflow",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pydantic",
    "pyyaml",
    "safetensors",
    "simplejpeg",
    "timm",
    "torch",
    "torchvision",
)

T = TypeVar("T")
_given_up: set[str] = set()


class Tracker:
    """Uploads run directories. Without `tracking.enabled` it does nothing, and never imports mlflow."""

    def __init__(self, config: TrackingConfig) -> None:
        self._enabled = config.enabled
        self._uri = tracking_store.uri()

    def sync(self, directory: Path, *, model: Path | None = None) -> str | None:
        """Upload what MLflow lacks of a run's directory and of its checkpoint; returns the MLflow run id.

        A store that fails costs one warning, and no further attempt in this process: then the answer is None.
        Raises ValueError where `directory` holds no run.
        """
        return self._ask(directory, lambda record: self._upload(record, model))

    def end(self, directory: Path) -> None:
        """Call a run killed that will not go on, where MLflow has it as running; fails as `sync` does."""
        self._ask(directory, self._kill)

    def _ask(self, directory: Path, request: Callable[[Record], T]) -> T | None:
        if not self._enabled or self._uri in _given_up:
            return None
        record = records.read(directory)
        try:
            return request(record)
        except ModuleNotFoundError as error:
            if error.name != "mlflow":
                raise
            self._give_up(directory, error)
        except _store_errors() as error:
            self._give_up(directory, error)
        return None

    def _give_up(self, directory: Path, error: Exception) -> None:
        _given_up.add(self._uri)
        reason = " ".join(str(error).split())
        warning = f"warning: MLflow at {self._uri} failed ({reason[:200]}) at the run of {directory}"
        remedy = "this goes on without it, and `vtn log-runs` uploads later what reports and sweeps/results hold then"
        print(f"{tracking_store.shown(warning)}; {remedy}", file=sys.stderr)

    @cached_property
    def _client(self) -> Any:
        tracking_store.quieten()
        from mlflow import MlflowClient

        # Two processes that create the tables of a new database at once break each other.
        with tracking_store.lock():
            client = MlflowClient(self._uri)
            client.search_experiments(max_results=1)
        return client

    def _upload(self, record: Record, model: Path | None) -> str:
        run = self._run(record)
        run_id: str = run.info.run_id
        self._log_facts(run, record)
        self._log_metrics(run, record)
        self._log_data(run, record)
        self._log_artifacts(run_id, record)
        if model is not None:
            self._log_model(run, model)
        if record.ended and (run.info.status != "FINISHED" or run.info.end_time < record.ended):
            self._client.set_terminated(run_id, "FINISHED", end_time=max(record.ended, record.started))
        return run_id

    def _kill(self, record: Record) -> None:
        experiment = self._client.get_experiment_by_name(record.experiment)
        run = self._find(experiment.experiment_id, record.uid) if experiment else None
        if run and run.info.status == "RUNNING":
            self._client.set_terminated(run.info.run_id, "KILLED")

    def _run(self, record: Record) -> Any:
        """The MLflow run of a record, created where there is none."""
        client = self._client
        with tracking_store.lock():
            experiment = self._experiment(record.experiment)
            if run := self._find(experiment, record.uid):
                return run
            return client.create_run(
                experiment, start_time=record.started, tags={UID: record.uid}, run_name=record.name
            )

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            experiment: str = found.experiment_id
            return experiment
        created: str = self._client.create_experiment(
            name, artifact_location=tracking_store.artifacts(self._uri)
        )
        return created

    def _find(self, experiment: str, uid: str) -> Any:
        found = self._client.search_runs([experiment], f"tags.`{UID}` = '{uid}'", max_results=1)
        return found[0] if found else None

    def _log_facts(self, run: Any, record: Record) -> None:
        """Params that are not there yet, and tags that are not there or say something else."""
        from mlflow.entities import Param, RunTag

        tags = dict(record.tags)
        if record.parent and (parent := self._find(run.info.experiment_id, record.parent)):
            tags["mlflow.parentRunId"] = parent.info.run_id
        known = run.data
        params = [
            Param(key, value[:PARAM_LENGTH])
            for key, value in record.params.items()
            if key not in known.params
        ]
        news = [
            RunTag(key, value[:TAG_LENGTH])
            for key, value in tags.items()
            if known.tags.get(key) != value[:TAG_LENGTH]
        ]
        for part in _parts(params, BATCH):
            self._client.log_batch(run.info.run_id, params=part)
        for part in _parts(news, BATCH):
            self._client.log_batch(run.info.run_id, tags=part)

    def _log_metrics(self, run: Any, record: Record) -> None:
        """Epochs beyond the last one logged, and final numbers that are new or changed."""
        from mlflow.entities import Metric

        run_id, now = run.info.run_id, round(time.time() * 1000)
        last = self._last_epoch(run_id, record)
        epochs = [epoch for epoch in record.epochs if epoch.number > last]
        for part in _parts(epochs, EPOCHS_A_BATCH):
            rows = [
                Metric(key, value, epoch.ended, epoch.number)
                for epoch in part
                for key, value in epoch.values.items()
            ]
            self._client.log_batch(run_id, metrics=rows)
        final = [
            Metric(key, value, now, 0)
            for key, value in record.metrics.items()
            if run.data.metrics.get(key) != value
        ]
        for finals in _parts(final, BATCH):
            self._client.log_batch(run_id, metrics=finals)

    def _last_epoch(self, run_id: str, record: Record) -> int:
        if not record.epochs:
            return 0
        key = next(iter(record.epochs[0].values))
        return max((metric.step for metric in self._client.get_metric_history(run_id, key)), default=0)

    def _log_data(self, run: Any, record: Record) -> None:
        """The data set as the run's input, its fingerprint as digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        digest = record.data["fingerprint"][:DIGEST_LENGTH]
        if any(known.dataset.digest == digest for known in run.inputs.dataset_inputs):
            return
        dataset = Dataset(record.data["name"], digest, "local", json.dumps(record.data))
        context = InputTag("mlflow.data.context", "training")
        self._client.log_inputs(run.info.run_id, [DatasetInput(dataset, [context])])

    def _log_artifacts(self, run_id: str, record: Record) -> None:
        sizes = {file.path: file.file_size for file in self._client.list_artifacts(run_id)}
        for path in record.artifacts:
            # Numbers of a fixed length change and the size does not; pictures of the same size are the same.
            if path.suffix in (".json", ".csv") or sizes.get(path.name) != path.stat().st_size:
                self._client.log_artifact(run_id, str(path))

    def _log_model(self, run: Any, directory: Path) -> None:
        """The checkpoint as a pyfunc model of the run, with the code that reads it."""
        import mlflow.pyfunc
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, Schema

        client, run_id = self._client, run.info.run_id
        digest = json.loads((directory / "model.json").read_text())["sha256"]
        if any(known.tags.get(WEIGHTS) == digest for known in self._models(run)):
            return
        logged = client.create_logged_model(
            run.info.experiment_id, name="model", source_run_id=run_id, tags={WEIGHTS: digest}
        )
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            # The signature is written by hand: an example would be a video.
            warnings.filterwarnings("ignore", message=".*input example")
            mlflow.pyfunc.save_model(
                f"{folder}/model",
                loader_module="vtn.predictor",
                data_path=str(directory),
                code_paths=[str(Path(__file__).parent)],
                mlflow_model=Model(run_id=run_id, model_uuid=logged.model_id, model_id=logged.model_id),
                signature=ModelSignature(Schema([ColSpec("string", "video")])),
                pip_requirements=list(_requirements()),
            )
            client.log_model_artifacts(logged.model_id, f"{folder}/model")
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])

    def _models(self, run: Any) -> Iterator[Any]:
        """The models that were uploaded whole: a model is an output of the run only then."""
        for output in run.outputs.model_outputs if run.outputs else ():
            yield self._client.get_logged_model(output.model_id)


def _store_errors() -> tuple[type[Exception], ...]:
    """What a store raises that is absent, broken or refuses; errors of requests are OSErrors."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError
    from urllib3.exceptions import HTTPError

    return MlflowException, SQLAlchemyError, HTTPError, OSError


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _requirements() -> Iterator[str]:
    """Pinned requirements of the model, local builds (`+cpu`) without their suffix."""
    for package in MODEL_PACKAGES:
        yield f"{package}=={metadata.version(package).partition('+')[0]}"
