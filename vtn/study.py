"""One schema for ablation tables and sweeps: a base, then explicit rows or a space to search."""

from collections.abc import Collection, Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from vtn import config
from vtn.sections import Params, Section

# What `experiment.run` measures of a row, beside its seed and protocol: all that can be reported or searched for.
SPEED_AND_SIZE = (
    *("latency_ms_p50", "latency_ms_p95", "latency_ms_spread", "backbone_ms_p50", "over_backbone"),
    *("clips_per_second", "frames_per_second", "peak_memory_mb", "parameters", "gmacs"),
    *("train_seconds", "epochs"),
)
NUMBERS = (
    *("top1", "top5", "coverage", "top1_missing_as_wrong", "calibration_error", "nll", "videos", "annotated"),
    *SPEED_AND_SIZE,
)


class Published(Section):
    """What a paper says of a row: percent, 1e6 parameters, 1e9 multiply-adds of a whole video; null: nothing."""

    top1: float | None = None
    top5: float | None = None
    parameters_m: float | None = None
    gmacs: float | None = None


class Row(Section):
    """One row of a table: its name, what it changes, as dotted keys, and what a paper found."""

    name: str
    set: dict[str, Any] = {}
    paper: Published = Published()


class Range(Section):
    """A number to search between `low` and `high`, both included; whole where both are written as such."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low: {self.low} is above high: {self.high}; swap them")
        if self.log and self.low <= 0:
            raise ValueError(f"low: {self.low} must be above 0 where log: true; raise it")
        return self


def _known(name: str) -> str:
    if name not in NUMBERS:
        raise ValueError(f"{name} is no number of a row; {config.suggest(name, NUMBERS)}")
    return name


Number = Annotated[str, AfterValidator(_known)]
Choices = Annotated[tuple[Any, ...], Field(min_length=1)]


class Study(Section):
    """A table (`rows`; the first is the base that others are compared with) or a sweep (`space`).

    `features: trained` keeps the backbone of models/vtn and trains the temporal part on its cached
    features; `features: none` trains every row end to end. `preset` names the params that a paper's rows
    start from: those that `vtn use` writes; the rows themselves run on any params.
    """

    title: str
    why: str
    preset: str | None = None
    features: Literal["trained", "none"]
    base: dict[str, Any] = {}
    rows: tuple[Row, ...] = ()
    space: dict[str, Range | Choices] = {}
    trials: Annotated[int, Field(ge=1)] | None = None
    objectives: dict[Number, Literal["maximize", "minimize"]] = {}
    report: tuple[Number, ...]

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.rows) == bool(self.space):
            raise ValueError("give either rows (a table) or space (a sweep)")
        if self.space and not self.objectives:
            raise ValueError("a space needs objectives, for example {top1: maximize}")
        if self.space and not self.is_grid and self.trials is None:
            raise ValueError("a space with ranges needs trials, the number of points to try")
        return self

    @model_validator(mode="after")
    def _different_choices(self) -> Self:
        for key, values in self.space.items():
            if isinstance(values, tuple) and len(set(map(repr, values))) < len(values):
                raise ValueError(f"space.{key}: {list(values)} names a value twice; name it once")
        return self

    @model_validator(mode="after")
    def _whole_report(self) -> Self:
        if len(set(self.report)) < len(self.report):
            raise ValueError(f"report: {', '.join(self.report)} names a number twice; name it once")
        if absent := [name for name in ("top1", self.cost) if name not in self.report]:
            raise ValueError(f"report: the picture is drawn of {' and '.join(absent)} too; add it")
        return self

    def yielding_to(self, keys: Collection[str]) -> "Study":
        """A copy whose base leaves alone the dotted keys that somebody asked for, sections included.

        Raises ValueError for a key that is searched or that a row sets.
        """
        own = {*self.space, *(key for row in self.rows for key in config.flatten(row.set))}
        if bad := sorted(key for key in keys if any(_covered(key, [o]) or _covered(o, [key]) for o in own)):
            raise ValueError(
                f"-S {bad[0]}: the points of {self.title!r} differ in it; override another key, or edit the file"
            )
        base = {key: value for key, value in config.flatten(self.base).items() if not _covered(key, keys)}
        return self.model_copy(update={"base": base})

    @property
    def cost(self) -> str:
        """What the picture sets top-1 against: the first cost among the objectives, else the latency of a video."""
        return next((name for name in self.objectives if name in SPEED_AND_SIZE), "latency_ms_p50")

    @property
    def is_grid(self) -> bool:
        """Whether the space is a finite grid that is searched whole."""
        return self.trials is None and all(isinstance(values, tuple) for values in self.space.values())


def load(name: str, directory: Path) -> Study:
    """Read `directory/name.yaml`; ValueError names the file and what is wrong with it."""
    path = directory / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in directory.glob("*.yaml")))
        raise ValueError(f"{path} not found; there are {known or 'none'}")
    try:
        return Study.model_validate(config.read_yaml(path))
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'the study'}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        ]
        raise ValueError(f"{path}: {'; '.join(problems)}") from None


def _covered(key: str, keys: Collection[str]) -> bool:
    """Whether a dotted key or a section that it lies in is among `keys`."""
    return any(f"{key}.".startswith(f"{other}.") for other in keys)


def check_rows(params: Params, study: Study, *, file: Path) -> None:
    """Try the params of every row, grid point and corner of ranges, before any of them is trained.

    Raises ValueError that names the study's file and the first row that is impossible.
    """
    for row, changes in _rows(study):
        try:
            row_params(params, study, changes, row=row)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None


def _rows(study: Study) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the changes of each row of a table; of a sweep, of each combination of values and limits."""
    for row in study.rows:
        yield row.name, row.set
    limits = [
        values if isinstance(values, tuple) else (values.low, values.high) for values in study.space.values()
    ]
    for point in product(*limits) if study.space else ():
        changes = dict(zip(study.space, point, strict=True))
        yield ", ".join(f"{key}={value}" for key, value in changes.items()), changes


def row_params(params: Params, study: Study, changes: dict[str, Any], *, row: str) -> Params:
    """The params of one row: `params`, then the study's base, then the row's own changes.

    Raises ValueError that names the row, and for a study on trained features every key that would
    change the backbone or what it sees.
    """
    overrides = {**config.flatten(study.base), **config.flatten(changes)}
    fixed = ("model.backbone", "clip.crop", "decode", "dataset", "train.augment")
    if study.features == "trained" and (bad := [key for key in overrides if key.startswith(fixed)]):
        raise ValueError(
            f"row {row!r}: {', '.join(bad)} changes the backbone or its input, but features: trained keeps both; "
            "set features: none"
        )
    try:
        return config.with_overrides(params, overrides)
    except ValueError as error:
        raise ValueError(f"row {row!r}: {error}") from None
