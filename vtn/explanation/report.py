"""The verb `vtn explain`: an explanation in words, for a person or a program, and its page."""

import json
from pathlib import Path

from vtn.device import choose
from vtn.explanation import page
from vtn.explanation.deletion import Deletion
from vtn.explanation.explain import Explanation, clock, explain, percent, refuse_without_attention
from vtn.model import checkpoint
from vtn.predictor import Predictor
from vtn.sections import MachineConfig


def run(video: Path, *, out: Path, model: Path, max_frames: int | None, as_json: bool) -> bool:
    """Draw the page `out` and print what it says; False where the video cannot be used, and nothing is drawn.

    Raises ValueError where the model cannot be loaded or has no attention.
    """
    if out.is_dir() or out.suffix.lower() != ".png":
        raise ValueError(f"--out {out}: the page is a picture; name a file that ends in .png")
    refuse_without_attention(checkpoint.read_card(model))
    predictor = Predictor(model, choose(MachineConfig()), max_frames=max_frames)
    try:
        found = explain(predictor, video, model=_model_line(model, predictor))
    except ValueError as error:
        failed = {"video": str(video), "error": str(error)}
        print(json.dumps(failed, indent=2) if as_json else f"{video}\n  cannot be used: {error}")
        return False
    page.draw(found, path=out)
    answer = {"video": str(video), **_answer(found), "page": str(out)}
    print(json.dumps(answer, indent=2, ensure_ascii=False) if as_json else _lines(video, out, found))
    return True


def _model_line(directory: Path, predictor: Predictor) -> str:
    """What a picture must say of the model: where it lies, its backbone, and the shape of its attention."""
    model = predictor.card.model
    temporal = model.temporal
    windows = f"window {' '.join(map(str, dict.fromkeys(temporal.windows)))}"
    return (
        f"{directory}: {model.backbone.name}, temporal layers {temporal.layers}, heads {temporal.heads}, "
        f"{windows if temporal.attention == 'window' else 'full attention'}"
    )


def _answer(found: Explanation) -> dict[str, object]:
    prediction = found.prediction
    return {
        "label": prediction.labels[0],
        "probability": prediction.probabilities[0],
        "frames": prediction.frames,
        "different_frames": prediction.different,
        "seconds": round(prediction.seconds, 3),
        "note": prediction.note,
        "moments": [
            {"seconds": round(float(found.seconds[frame]), 3), "weight": float(found.importance[frame])}
            for frame in found.moments
        ],
        "deletion": found.deletion and _deletion(found.deletion),
    }


def _deletion(check: Deletion) -> dict[str, object]:
    return {
        "removed": check.shares.tolist(),
        "highest": check.highest.tolist(),
        "lowest": check.lowest.tolist(),
        "random_mean": check.random.mean(axis=0).tolist(),
        "random_min": check.random.min(axis=0).tolist(),
        "random_max": check.random.max(axis=0).tolist(),
        "area": check.area,
        "layer_areas": check.layer_areas.tolist(),
        "tells_more_than_chance": check.telling,
        "sentence": check.sentence(),
        "verdict": check.verdict(),
    }


def _lines(video: Path, out: Path, found: Explanation) -> str:
    prediction = found.prediction
    note = f"; {prediction.note}" if prediction.note else ""
    weights = ", ".join(
        f"{clock(found.seconds[frame])} ({percent(found.importance[frame])})" for frame in found.moments
    )
    return "\n".join(
        [
            f"{video} ({prediction.extent}{note})",
            f"  {prediction.labels[0]}  {prediction.probabilities[0]:.1%}",
            f"  highest weights at {weights}",
            *(f"  {line}" for line in found.words),
            f"  {out}",
        ]
    )
