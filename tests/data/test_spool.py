import numpy as np
import pytest

from vtn.data import spool as spools
from vtn.data.spool import Spool
from vtn.sections import DecodeConfig

DECODE = DecodeConfig(short_side=32, quality=95)


def frame(grey):
    return np.full((32, 48, 3), grey, dtype=np.uint8)


@pytest.mark.parametrize("in_memory", [10**6, 0])
def test_frames_come_back_in_any_order_from_memory_and_from_disk(monkeypatch, in_memory):
    monkeypatch.setattr(spools, "IN_MEMORY", in_memory)
    with Spool(DECODE) as spool:
        for number in range(5):
            spool.append(number / 10, frame(number * 40))
        frames = spool.read([4, 0, 2, 2])
    assert frames.shape == (4, 32, 48, 3)
    assert frames.mean(axis=(1, 2, 3)).tolist() == pytest.approx([160, 0, 80, 80], abs=2)
    assert spool.times.tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert len(spool) == 5


def test_all_frames_get_the_size_of_the_first():
    with Spool(DECODE) as spool:
        spool.append(0.0, frame(0))
        spool.append(0.1, np.zeros((64, 200, 3), dtype=np.uint8))
        assert spool.read([0, 1]).shape == (2, 32, 48, 3)


def test_frames_may_be_added_after_some_were_read():
    with Spool(DECODE) as spool:
        spool.append(0.0, frame(10))
        spool.read([0])
        spool.append(0.1, frame(200))
        assert spool.read([1]).mean() == pytest.approx(200, abs=2)
