"""Only the values that were asked for change in the text of params.yaml."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vtn import config
from vtn.params_text import rewrite

TEXT = """\
# A heading.

train:
  epochs: 8                # of the data
  decay_epochs: []         # steps
  clip_grad:               # nothing yet
  augment: {flip: 0.5, erasing: 0.0}  # on one line
  note: 'a # is no comment'

model:
    name: test_resnet      # another indentation
# The end.
"""


@pytest.mark.parametrize(
    ("changes", "old", "new"),
    [
        ({"train.epochs": 25}, "8                #", "25               #"),
        ({"train.decay_epochs": [13, 24]}, "[]         #", "[13, 24]   #"),
        ({"train.clip_grad": 1.0}, "clip_grad:               #", "clip_grad: 1.0           #"),
        ({"train.augment.flip": None}, "flip: 0.5", "flip: null"),
        ({"train.augment.jitter": 0.1}, "erasing: 0.0}", "erasing: 0.0, jitter: 0.1}"),
        ({"train.note": "b: c"}, "'a # is no comment'", "'b: c'"),
        ({"model.name": "vit" * 9}, "test_resnet      #", "vit" * 9 + "  #"),
        ({"model.frozen": True}, "another indentation", "another indentation\n    frozen: true"),
        ({"model.head.hidden": 3}, "another indentation", "another indentation\n    head: {hidden: 3}"),
        ({"seed": 1}, "another indentation", "another indentation\nseed: 1"),
    ],
)
def test_one_value_changes_and_the_rest_stays_byte_for_byte(changes, old, new):
    assert TEXT.count(old) == 1
    assert rewrite(TEXT, changes) == TEXT.replace(old, new)


@pytest.mark.parametrize("indent", ["    ", "  "])
def test_a_list_in_a_block_is_replaced_whole(indent):
    text = f"train:\n  decay_epochs:\n{indent}- 13\n{indent}- 24\n  # on momentum\n  epochs: 8\n"
    changed = rewrite(text, {"train.decay_epochs": [5]})
    assert changed == "train:\n  decay_epochs: [5]\n  # on momentum\n  epochs: 8\n"


@pytest.mark.parametrize("indent", ["    ", "  "])
def test_a_comment_before_a_list_in_a_block_stays(indent):
    text = f"train:\n  decay_epochs:  # of the schedule\n{indent}- 13\n  epochs: 8\n"
    changed = rewrite(text, {"train.decay_epochs": [5]})
    assert changed == f"train:\n  decay_epochs:  # of the schedule\n{indent} [5]\n  epochs: 8\n"


@pytest.mark.parametrize(
    "text", ["", "# nothing yet\n", "seed: 3", "train: {}\n", "seed: 3\r\nmodel: {a: 1}\r\n"]
)
def test_what_is_missing_is_added(text):
    changed = rewrite(text, {"train.epochs": 3, "train.optimizer": "sgd"})
    assert yaml.safe_load(changed)["train"] == {"epochs": 3, "optimizer": "sgd"}
    assert text.rstrip().replace("{}", "") in changed


def test_shared_values_are_refused():
    with pytest.raises(ValueError, match=r"shares values .* change these keys by hand"):
        rewrite("a: &x {b: 1}\nc: *x\n", {"a.b": 2})


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.lists(st.integers())
)


@given(st.dictionaries(st.sampled_from(list(config.flatten(yaml.safe_load(TEXT)))), VALUES))
def test_any_values_come_back_as_they_were_given(changes):
    changed = rewrite(TEXT, changes)
    assert yaml.safe_load(changed) == config.override(yaml.safe_load(TEXT), changes)
    assert changed.startswith("# A heading.\n\ntrain:\n") and changed.endswith("# The end.\n")
