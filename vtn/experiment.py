"""One experiment: params -> data -> model -> fit -> evaluate -> measure -> one row of numbers.

The train and evaluate stages, every ablation row and every sweep trial call these functions.
"""

import statistics
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vtn import device
from vtn.data.clips import (
    EpochSampler,
    EvaluationClips,
    Source,
    TrainingClips,
    View,
    loader,
    multi_views,
    whole_video_views,
)
from vtn.data.corpus import Corpus
from vtn.data.features import cached_features
from vtn.data.sampling import WholeVideo
from vtn.evaluation import benchmark, metrics
from vtn.evaluation.predict import Predictions, predict
from vtn.model import backbone as backbones
from vtn.model import checkpoint, vtn
from vtn.model.backbone import Backbone
from vtn.model.checkpoint import Card
from vtn.model.vtn import VTN
from vtn.sections import Params
from vtn.training.augmentation import preparation
from vtn.training.loop import OnEpoch, Trainer

FEATURES = Path("data/features")

History = list[dict[str, float]]


@dataclass(frozen=True)
class Experiment:
    """Params on a data set. `source` gives frames, or features where the backbone does not change."""

    params: Params
    corpus: Corpus
    model: VTN
    source: Source

    @property
    def backbone(self) -> Backbone:
        """The model's backbone: an experiment always has one, cached features or not."""
        assert self.model.backbone is not None
        return self.model.backbone

    @property
    def on_features(self) -> bool:
        """Whether cached features stand in for frames and backbone."""
        return self.source is not self.corpus.store


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found: `numbers` as in metrics.json, and the probabilities behind them."""

    numbers: dict[str, float | str]
    predictions: Predictions


def prepare(params: Params, corpus: Corpus, *, trained_backbone: Backbone | None = None) -> Experiment:
    """Build the model and choose what it reads.

    With `trained_backbone`, or a frozen backbone whose frames are not augmented, the backbone's
    features of every frame are computed once and read from a cache from then on.
    Raises ValueError where the frames were decoded with another recipe than params name.
    """
    corpus.check_recipe(params.decode)
    torch.manual_seed(params.seed)
    if trained_backbone is not None:
        trained_backbone.freeze()
    backbone = trained_backbone or backbones.build(params.model.backbone, params.clip.crop)
    model = vtn.build_on_features(
        params.model, num_classes=len(corpus.classes), features=backbone.num_features, backbone=backbone
    )
    fixed = trained_backbone is not None or _never_changes(params)
    source = _features(params, corpus, backbone) if fixed else corpus.store
    return Experiment(params, corpus, model, source)


def load_trained(params: Params, corpus: Corpus, directory: Path) -> Experiment:
    """The model of a checkpoint on the data set; ValueError where it was trained on another, or otherwise."""
    corpus.check_recipe(params.decode)
    model, card = checkpoint.load(directory)
    keys = ("model.", "clip.")
    checkpoint.check_fits(card, params, classes=corpus.classes, data=corpus.fingerprint, keys=keys)
    return Experiment(params, corpus, model, corpus.store)


def load_backbone(params: Params, corpus: Corpus, directory: Path) -> tuple[Backbone, Card]:
    """The backbone of a checkpoint, for rows that train the rest anew, and its card; ValueError as above."""
    model, card = checkpoint.load(directory)
    checkpoint.check_fits(card, params, classes=corpus.classes, data=corpus.fingerprint)
    assert model.backbone is not None
    return model.backbone, card


def fit(experiment: Experiment, *, work: Path, on_epoch: OnEpoch) -> History:
    """Train the experiment's model; `work` keeps the state of an interrupted training.

    The model ends with the weights of its best validation epoch. Returns one row an epoch.
    """
    params, corpus, model = experiment.params, experiment.corpus, experiment.model
    work.mkdir(parents=True, exist_ok=True)
    clips = TrainingClips(
        experiment.source,
        corpus.labelled("train"),
        clip=params.clip,
        augment=params.train.augment,
        seed=params.seed,
    )
    batches = loader(
        clips,
        batch_size=params.train.batch_size,
        workers=_workers(experiment),
        sampler=EpochSampler(len(clips), seed=params.seed),
    )
    trainer = Trainer(model, batches, train=params.train, machine=params.machine, seed=params.seed, work=work)
    views = _whole_videos(experiment, "val")

    def validate(candidate: VTN) -> dict[str, float]:
        found = _predict(experiment, candidate, views, "val")
        numbers = _accuracy(found, corpus, "val")
        return {"top1": numbers["top1"], "top5": numbers["top5"], "loss": numbers["nll"]}

    prepare_frames = preparation(experiment.backbone.normalise, params.train.augment)
    history = trainer.fit(prepare_frames, validate, on_epoch)
    on_epoch(history)  # also when another row has trained the same model before
    return history


def evaluate(experiment: Experiment) -> Evaluation:
    """Whole videos in one pass: accuracy with its coverage and protocol."""
    params = experiment.params
    split = params.evaluate.split
    experiment.model.to(device.choose(params.machine))
    views = _whole_videos(experiment, split, shuffle=params.evaluate.shuffle_frames)
    predictions = _predict(experiment, experiment.model, views, split)
    numbers = _accuracy(predictions, experiment.corpus, split)
    return Evaluation({**numbers, "protocol": protocol(experiment)}, predictions)


def evaluate_views(experiment: Experiment) -> Evaluation:
    """The usual alternative: several short clips a video, their probabilities averaged."""
    params, split = experiment.params, experiment.params.evaluate.split
    experiment.model.to(device.choose(params.machine))
    wanted = params.evaluate.views
    views = multi_views(experiment.source, experiment.corpus.labelled(split), clip=params.clip, views=wanted)
    predictions = _predict(experiment, experiment.model, views, split)
    name = (
        f"{params.clip.frames} frames x {wanted.clips * wanted.crops} views "
        f"({wanted.clips} clips x {wanted.crops} crops) @ {params.clip.crop}/{params.decode.short_side}"
    )
    return Evaluation({**_accuracy(predictions, experiment.corpus, split), "protocol": name}, predictions)


def measure(experiment: Experiment) -> dict[str, float]:
    """Speed, memory and size of the whole model on whole videos of the split's median length."""
    params = experiment.params
    views = _whole_videos(experiment, params.evaluate.split)
    return benchmark.measure(
        experiment.model,
        frames=int(statistics.median(len(view.frames) for view in views)),
        crop=params.clip.crop,
        device=device.choose(params.machine),
        speed=params.evaluate.speed,
        batch_size=params.evaluate.batch_size,
    )


def measure_views(experiment: Experiment) -> dict[str, float]:
    """The cost of `evaluate_views` a video: all its clips and crops as one batch."""
    params = experiment.params
    views = params.evaluate.views.clips * params.evaluate.views.crops
    speed = benchmark.measure(
        experiment.model,
        frames=params.clip.frames,
        crop=params.clip.crop,
        device=device.choose(params.machine),
        speed=params.evaluate.speed,
        batch_size=views,
    )
    return {"latency_ms_p50": 1000 * views / speed["clips_per_second"], "gmacs": views * speed["gmacs"]}


def run(
    params: Params, corpus: Corpus, *, work: Path, on_epoch: OnEpoch, trained_backbone: Backbone | None = None
) -> dict[str, float | str]:
    """Fit, evaluate and measure: the row of an ablation or the result of a trial."""
    experiment = prepare(params, corpus, trained_backbone=trained_backbone)
    history = fit(experiment, work=work, on_epoch=on_epoch)
    return {
        **evaluate(experiment).numbers,
        **measure(experiment),
        "train_seconds": sum(row["seconds"] for row in history),
        "epochs": len(history),
        "seed": params.seed,
    }


def protocol(experiment: Experiment) -> str:
    """How accuracy was obtained, in one line."""
    params = experiment.params
    rate, most = params.evaluate.rate or params.clip.rate, params.evaluate.max_frames
    if params.evaluate.sampling == "reference":
        seen = f"release's frame numbers, first {most / rate:g} s, {most} frames"
    else:
        seen = f"whole video, {rate:g} frames/s, at most {most}"
    parts = [
        f"{params.evaluate.split} split, {seen} x 1 view @ {params.clip.crop}/{params.decode.short_side}"
    ]
    if params.evaluate.shuffle_frames:
        parts.append("frames shuffled")
    if experiment.on_features or _never_changes(params):
        parts.append("temporal part trained on the centre crop's cached features of a fixed backbone")
    return "; ".join(parts)


def _whole_videos(experiment: Experiment, split: str, *, shuffle: bool = False) -> list[View]:
    params = experiment.params
    reading = WholeVideo(
        rate=params.evaluate.rate or params.clip.rate,
        max_frames=params.evaluate.max_frames,
        position_rate=params.clip.position_rate,
        sampling=params.evaluate.sampling,
    )
    labelled, seed = experiment.corpus.labelled(split), params.seed if shuffle else None
    return whole_video_views(experiment.source, labelled, reading, shuffle_seed=seed)


def _predict(experiment: Experiment, model: VTN, views: list[View], split: str) -> Predictions:
    params = experiment.params
    clips = EvaluationClips(experiment.source, experiment.corpus.labelled(split), views, clip=params.clip)
    return predict(
        model,
        clips,
        prepare=preparation(experiment.backbone.normalise),
        batch_size=params.evaluate.batch_size,
        workers=_workers(experiment),
        device=device.choose(params.machine),
    )


def _accuracy(predictions: Predictions, corpus: Corpus, split: str) -> dict[str, float]:
    return metrics.classification(
        predictions.probabilities, predictions.labels, annotated=len(corpus.annotated(split))
    )


def _features(params: Params, corpus: Corpus, backbone: Backbone) -> Source:
    chosen, known = device.choose(params.machine), params.model.backbone
    backbone.to(chosen).eval()
    normalise = preparation(backbone.normalise)

    @torch.inference_mode()
    def encode(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(frames).to(chosen)  # (M, C, H, W)
        features: NDArray[np.float32] = backbone(normalise(pixels)).float().cpu().numpy()
        return features

    manifest = corpus.store.manifest
    return cached_features(
        corpus.store,
        sorted(manifest[manifest["accepted"]]["video"]),
        encode,
        crop=params.clip.crop,
        identity={
            # An activation, which options may name, has no weights.
            "backbone": [known.name, known.options, backbone.fingerprint()],
            "timm": metadata.version("timm"),
            "device": f"{chosen.type} {torch.get_float32_matmul_precision()}",
            "frames": corpus.store.fingerprint,
        },
        directory=FEATURES,
    )


def _never_changes(params: Params) -> bool:
    """Whether features may be computed once: backbone and input stay, and the centre stands for all crops."""
    plain = type(params.train.augment)()
    pixels_rest = params.train.augment == plain and params.clip.crop == params.decode.short_side
    return params.model.backbone.frozen and pixels_rest


def _workers(experiment: Experiment) -> int:
    """Loader processes; reading cached features costs less than handing them over."""
    return 0 if experiment.on_features else device.worker_count(experiment.params.machine)
