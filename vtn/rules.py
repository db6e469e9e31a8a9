"""The rules that tie keys of params.yaml together."""

from collections.abc import Iterable

from vtn.sections import (
    AugmentConfig,
    BackboneConfig,
    ClipConfig,
    DecodeConfig,
    EvaluateConfig,
    Params,
    TrainConfig,
)


def cross_field_problems(params: Params) -> Iterable[str]:
    """Rules that no single key can break, each with the keys, the values and the remedy."""
    clip, temporal, decode, train = params.clip, params.model.temporal, params.decode, params.train
    if clip.crop > decode.short_side:
        yield (
            f"clip.crop: {clip.crop} pixels do not fit into decode.short_side: {decode.short_side}; "
            "lower the crop or decode larger frames"
        )
    if decode.max_fps is not None and clip.rate > decode.max_fps:
        yield (
            f"clip.frames: {clip.frames} in clip.seconds: {clip.seconds} is {clip.rate:g} frames a second, "
            f"but decode.max_fps: {decode.max_fps:g} keeps fewer; raise decode.max_fps or ask for fewer frames"
        )
    if temporal.width is not None and temporal.width % temporal.heads:
        yield (
            f"model.temporal.width: {temporal.width} is not a multiple of model.temporal.heads: {temporal.heads}"
        )
    if not isinstance(temporal.window, int) and len(temporal.window) != temporal.layers:
        yield (
            f"model.temporal.window: {len(temporal.window)} windows for model.temporal.layers: {temporal.layers}; "
            "give one number, or one a layer"
        )
    if any(window % 2 for window in temporal.windows):
        yield f"model.temporal.window: {temporal.window} must be even: half of it lies on each side of a frame"
    if params.dataset.val_share + params.dataset.test_share >= 1:
        yield (
            f"dataset.val_share: {params.dataset.val_share} and dataset.test_share: "
            f"{params.dataset.test_share} leave nothing to train on; their sum must stay below 1"
        )
    yield from _evaluate_problems(params.evaluate, decode)
    yield from _augment_problems(train.augment, clip, decode)
    yield from _training_problems(train, params.model.backbone)


def _evaluate_problems(evaluate: EvaluateConfig, decode: DecodeConfig) -> Iterable[str]:
    rate, kept = evaluate.rate, decode.max_fps
    if kept is not None and rate is not None and rate > kept:
        yield (
            f"evaluate.rate: {rate:g} frames a second, but decode.max_fps: {kept:g} keeps fewer; "
            "lower the one or raise the other"
        )
    if evaluate.sampling == "reference" and kept is not None:
        yield f"evaluate.sampling: reference needs decode.max_fps: null, not {kept:g}"
    if evaluate.sampling == "reference" and rate is None:
        yield "evaluate.sampling: reference needs evaluate.rate, the release's is 25"


def _augment_problems(augment: AugmentConfig, clip: ClipConfig, decode: DecodeConfig) -> Iterable[str]:
    if augment.min_scale > augment.max_scale:
        yield (
            f"train.augment.min_scale: {augment.min_scale} is above train.augment.max_scale: {augment.max_scale}; "
            "swap them"
        )
    if clip.crop * augment.max_scale > decode.short_side:
        yield (
            f"train.augment.max_scale: {augment.max_scale} times clip.crop: {clip.crop} does not fit into "
            f"decode.short_side: {decode.short_side}; lower the scale or decode larger frames"
        )


def _training_problems(train: TrainConfig, backbone: BackboneConfig) -> Iterable[str]:
    if train.schedule != "constant" and train.warmup_epochs >= train.epochs > 1:
        yield (
            f"train.warmup_epochs: {train.warmup_epochs} must stay below train.epochs: {train.epochs}; "
            "shorten the warm-up"
        )
    if train.schedule == "step" and not train.decay_epochs:
        yield "train.decay_epochs: empty, but train.schedule: step needs the epochs at which to decay"
    if backbone.pretrained and backbone.weights is not None:
        yield (
            f"model.backbone.pretrained: true and model.backbone.weights: {backbone.weights} exclude each other; "
            "set one of them"
        )
    if backbone.frozen and not backbone.pretrained and backbone.weights is None:
        yield (
            "model.backbone.frozen: true with random weights learns nothing; set model.backbone.pretrained: true "
            "or model.backbone.weights"
        )
