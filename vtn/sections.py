"""The sections of params.yaml as frozen types."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Sampling = Literal["time", "reference"]


class Section(BaseModel):
    """A section of params.yaml: immutable, and a stranger to unknown keys."""

    # Not strict: PyYAML reads 1e-3 as a string, and lax mode turns it into a number.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MotionsConfig(Section):
    """How many clips the embedded data set draws, and how large (pixels a side)."""

    train_clips: Positive = 2000
    val_clips: Positive = 100
    test_clips: Positive = 400
    size: Annotated[int, Field(ge=32, multiple_of=2)] = 48


class DatasetConfig(Section):
    """Which labelled videos the pipeline works on."""

    name: Literal["motions", "folder"] = "motions"
    folder: Path = Path("videos")
    annotations: Path | None = None
    val_share: Share = 0.15
    test_share: Share = 0.15
    motions: MotionsConfig = MotionsConfig()

    @property
    def videos(self) -> Path:
        """The directory that the `video` column of the annotations is relative to."""
        return Path("data/videos") if self.name == "motions" else self.folder


class DecodeConfig(Section):
    """How videos become JPEG frames in the store."""

    short_side: Annotated[int, Field(ge=16)] = 48
    max_fps: Annotated[float, Field(gt=0)] | None = 8.0
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    min_frames: Positive = 2
    shards: Positive = 16
    max_rejected: Share = 0.05


class ClipConfig(Section):
    """What the model sees of a video: `frames` frames spread over `seconds`, cut to `crop`."""

    frames: Positive = 8
    seconds: Seconds = 2.0
    crop: Annotated[int, Field(ge=16)] = 48
    position_rate: Annotated[float, Field(gt=0)] = 25.0

    @property
    def rate(self) -> float:
        """Sampled frames per second of video."""
        return self.frames / self.seconds


class BackboneConfig(Section):
    """A timm model that turns one frame into one feature vector; `options` go to timm's constructor."""

    name: str = "test_resnet"
    options: dict[str, Any] = {}
    pretrained: bool = False
    weights: Path | None = None
    frozen: bool = False

    def __hash__(self) -> int:
        """By value, although `options` is a dict."""
        return hash(self.model_dump_json())


class TemporalConfig(Section):
    """The Longformer-style encoder over frame features (VTN paper, section 3.2)."""

    layers: Annotated[int, Field(ge=0)] = 2
    heads: Positive = 4
    width: Positive | None = None
    feedforward: Positive = 256
    attention: Literal["window", "full", "uniform"] = "window"
    window: Positive | tuple[Positive, ...] = 4
    norm: Literal["post", "pre"] = "post"
    position: Literal["learned", "sinusoidal", "none"] = "sinusoidal"
    position_scale: Annotated[float, Field(gt=0)] = 0.1
    max_positions: Annotated[int, Field(ge=4)] = 288
    dropout: Share = 0.0
    attention_dropout: Share = 0.0

    @property
    def windows(self) -> tuple[int, ...]:
        """The two-sided attention window of each layer, in frames."""
        return (self.window,) * self.layers if isinstance(self.window, int) else self.window


class HeadConfig(Section):
    """The MLP head: LayerNorm, Linear, GELU, Dropout, Linear."""

    hidden: Positive = 96
    dropout: Share = 0.0


class ModelConfig(Section):
    """Backbone, temporal encoder and head of one VTN."""

    backbone: BackboneConfig = BackboneConfig()
    temporal: TemporalConfig = TemporalConfig()
    head: HeadConfig = HeadConfig()


class AugmentConfig(Section):
    """Training-time changes of a clip, the same for all its frames.

    The cropped region's side is `clip.crop` times a number in [min_scale, max_scale].
    """

    min_scale: Annotated[float, Field(ge=0.05)] = 1.0
    max_scale: Annotated[float, Field(ge=0.05)] = 1.0
    horizontal_flip: Annotated[float, Field(ge=0, le=1)] = 0.0
    colour_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    erasing: Annotated[float, Field(ge=0, le=1)] = 0.0


class TrainConfig(Section):
    """The recipe: optimiser, schedule, regularisation and augmentation."""

    epochs: Positive = 5
    batch_size: Positive = 8
    accumulate: Positive = 1
    optimizer: str = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    backbone_rate_scale: Annotated[float, Field(gt=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    decay_epochs: tuple[Positive, ...] = ()
    decay_rate: Annotated[float, Field(gt=0, lt=1)] = 0.1
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    label_smoothing: Share = 0.1
    clip_grad: Annotated[float, Field(gt=0)] | None = 1.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["auto", "float32", "bf16"] = "auto"
    augment: AugmentConfig = AugmentConfig()


class ViewsConfig(Section):
    """Multi-view evaluation: `clips` along time times `crops` along the longer side."""

    clips: Positive = 3
    crops: Literal[1, 3] = 1


class SpeedConfig(Section):
    """How often the speed measurement runs the model."""

    warmup: Positive = 3
    repeats: Annotated[int, Field(ge=5)] = 30


class EvaluateConfig(Section):
    """The whole-video protocol: frames at `rate` a second (null: as in training), chosen by `sampling`."""

    split: Literal["val", "test"] = "test"
    rate: Annotated[float, Field(gt=0)] | None = None
    max_frames: Positive = 250
    sampling: Sampling = "time"
    shuffle_frames: bool = False
    batch_size: Positive = 16
    views: ViewsConfig = ViewsConfig()
    speed: SpeedConfig = SpeedConfig()


class AblateConfig(Section):
    """Which tables `ablate` fills, and the recipe of their rows where it differs from `train`."""

    tables: tuple[str, ...] = ("depth", "position", "frames", "attention")
    epochs: Positive = 6
    batch_size: Positive = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3


class TrackingConfig(Section):
    """MLflow: on or off, and the experiment's name (null: the data set's)."""

    enabled: bool = True
    experiment: str | None = None


class MachineConfig(Section):
    """What this machine lends. No stage depends on it: results must not."""

    device: Literal["auto", "cpu"] = "auto"
    workers: Annotated[int, Field(ge=0)] | None = None
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 10.0


class Params(Section):
    """All of params.yaml, with its numbers as the defaults: a line deleted there changes nothing."""

    dataset: DatasetConfig = DatasetConfig()
    decode: DecodeConfig = DecodeConfig()
    clip: ClipConfig = ClipConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    ablate: AblateConfig = AblateConfig()
    tracking: TrackingConfig = TrackingConfig()
    machine: MachineConfig = MachineConfig()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
