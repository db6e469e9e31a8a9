"""Frame numbers as the release picks them: by hand, and against what its own code gave (../shared/golden)."""

import json

import numpy as np
import pytest

from vtn.data import reference_sampling as reference
from vtn.data.sampling import WholeVideo


def test_ten_seconds_at_25_are_all_their_frames():
    assert reference.whole_video(250, 25.0).tolist() == list(range(250))


def test_a_longer_video_is_cut_at_ten_seconds():
    assert reference.whole_video(5000, 25.0).tolist() == list(range(250))
    assert reference.whole_video(5000, 30.0)[-1] == 299


def test_a_shorter_video_repeats_frames_and_the_last_one_is_clamped():
    numbers = reference.whole_video(4, 25.0, frames=9)
    assert numbers.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 3]  # 0 to 4 in halves
    assert reference.whole_video(1, 25.0).tolist() == [0] * 250


def test_frames_are_the_release_s(shared):
    cases = json.loads((shared / "golden" / "sampling_indices.json").read_text())["full_video_test"]
    for case in cases:
        found = reference.whole_video(case["total_frames"], case["fps"], frames=case["num_frames"])
        assert found.tolist() == case["index"], case["fps"]


@pytest.mark.parametrize("rate", [12.5, 15.0, 24.0, 25.0, 30.0, 60.0, 24 / 1.001, 30 / 1.001, 60 / 1.001])
@pytest.mark.parametrize("digits", [3, 12], ids=["WebM's milliseconds", "exact"])
def test_the_frame_rate_is_read_from_the_times(rate, digits):
    times = np.round(np.arange(333) / rate, digits)
    assert reference.frame_rate(times) == pytest.approx(rate, rel=1e-9)


def test_a_variable_rate_counts_as_its_average_and_one_frame_as_any():
    assert reference.frame_rate(np.array([0.0, 0.1, 0.2, 1.0, 1.25])) == pytest.approx(3.2)
    assert reference.frame_rate(np.zeros(1)) == 25


def test_a_whole_video_is_read_by_number_and_its_positions_are_the_numbers():
    reading = WholeVideo(rate=25, max_frames=250, position_rate=25, sampling="reference")
    indices, positions = reading.choose(np.arange(600) / 60)
    assert indices.tolist() == positions.tolist() == reference.whole_video(600, 60.0).tolist()
    assert reading.choose(np.zeros(1))[0].tolist() == [0] * 250


def test_a_whole_video_is_read_by_time_unless_asked_otherwise():
    indices, positions = WholeVideo(rate=5, max_frames=250, position_rate=25).choose(np.arange(60) / 50)
    assert indices.tolist() == list(range(0, 60, 10))
    assert positions.tolist() == list(range(0, 30, 5))
