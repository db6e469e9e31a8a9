"""Short names for all that a result depends on: the same facts, the same key."""

from typing import Any

from vtn import device, identity
from vtn.data.corpus import Corpus
from vtn.model import backbone as backbones
from vtn.model.backbone import Backbone
from vtn.sections import Params


def fit_key(params: Params, corpus: Corpus, *, trained_backbone: Backbone | None = None) -> str:
    """A name for everything the trained weights depend on: recipe, data, code, given backbone."""
    given = None if trained_backbone is None else trained_backbone.fingerprint()
    validation = params.evaluate.model_dump(mode="json", include={"rate", "max_frames", "sampling"})
    return _key(params, corpus, backbone=given, validation=validation)


def study_key(params: Params, corpus: Corpus, **more: Any) -> str:
    """A name for everything the numbers of a table or a sweep depend on; `more` are facts of its own."""
    return _key(params, corpus, evaluate=params.evaluate.model_dump(mode="json"), **more)


def _key(params: Params, corpus: Corpus, **more: Any) -> str:
    facts = params.model_dump(mode="json", include={"clip", "model", "train", "seed"})
    # Its path says nothing of what the file holds.
    facts["model"]["backbone"]["weights"] = backbones.weights_hash(params.model.backbone)
    return identity.content_key(
        {
            **facts,
            "data": corpus.fingerprint,
            "code": identity.code_hash(),
            "device": device.choose(params.machine).type,
            **more,
        }
    )
