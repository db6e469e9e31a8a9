import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtn.data import sampling


def steady(frames, fps=25.0):
    return np.arange(frames) / fps


def rng(seed=0):
    return np.random.default_rng(seed)


def random_clips(times, *, frames=8, seconds=2.0, draws=50):
    return [
        sampling.random_clip(times, frames=frames, seconds=seconds, rng=rng(seed)) for seed in range(draws)
    ]


@st.composite
def presentation_times(draw):
    """Ascending seconds from 0, of videos with steady and with wild frame rates."""
    gaps = draw(st.lists(st.floats(0.005, 3.0), max_size=60))
    return np.concatenate([[0.0], np.cumsum(gaps)])


@settings(max_examples=200, derandomize=True)
@given(
    times=presentation_times(),
    frames=st.integers(1, 40),
    seconds=st.floats(0.1, 20),
    seed=st.integers(0, 99),
)
def test_every_clip_is_some_frames_in_order_and_none_twice(times, frames, seconds, seed):
    clips = [
        sampling.random_clip(times, frames=frames, seconds=seconds, rng=rng(seed)),
        *sampling.even_clips(times, frames=frames, seconds=seconds, clips=3),
        sampling.whole_video(times, rate=frames / seconds, max_frames=frames),
    ]
    for clip in clips:
        assert 1 <= len(clip) <= frames
        assert np.all(np.diff(clip) > 0)
        assert clip[0] >= 0 and clip[-1] < len(times)
        assert np.issubdtype(clip.dtype, np.integer)


@pytest.mark.parametrize("fps", [12, 25, 29.97, 30, 60])
def test_a_clip_has_all_its_frames_evenly_in_time_at_any_frame_rate(fps):
    times = steady(int(3 * fps), fps)
    for clip in random_clips(times):
        assert len(clip) == 8
        assert times[clip[-1]] - times[clip[0]] == pytest.approx(1.75, abs=1 / fps)
        assert np.diff(times[clip]) == pytest.approx(np.full(7, 0.25), abs=1.01 / fps)


def test_random_clips_reach_both_ends_of_the_video_and_all_between():
    starts = [clip[0] for clip in random_clips(steady(100), draws=300)]
    ends = [clip[-1] for clip in random_clips(steady(100), draws=300)]
    assert (min(starts), max(starts)) == (0, 50)
    assert max(ends) in (93, 94)  # 2 s + 1.75 s
    assert len(set(starts)) > 45


def test_a_video_as_short_as_the_clip_is_cut_differently_each_time():
    assert len({tuple(clip) for clip in random_clips(steady(50))}) > 3


@pytest.mark.parametrize("frames", [1, 2, 5, 20])
def test_a_video_shorter_than_the_clip_gives_fewer_frames_but_never_none(frames):
    lengths = [len(clip) for clip in random_clips(steady(frames))]
    assert min(lengths) >= 1
    assert max(lengths) <= min(frames, 4)


def test_a_clip_is_drawn_from_its_generator_alone():
    times = steady(200)
    first, again = (sampling.random_clip(times, frames=4, seconds=1.0, rng=rng(3)) for _ in range(2))
    assert first.tolist() == again.tolist()


def test_even_clips_start_at_the_beginning_and_stop_at_the_end():
    clips = sampling.even_clips(steady(101), frames=5, seconds=1.0, clips=3)
    assert [clip.tolist() for clip in clips] == [list(range(start, start + 25, 5)) for start in (0, 38, 76)]


def test_a_single_even_clip_is_the_middle_one():
    (clip,) = sampling.even_clips(steady(101), frames=5, seconds=1.0, clips=1)
    assert clip.tolist() == [38, 43, 48, 53, 58]


def test_a_whole_video_is_read_from_first_to_last_frame_at_the_rate():
    assert sampling.whole_video(steady(51), rate=5, max_frames=250).tolist() == list(range(0, 51, 5))


@pytest.mark.parametrize("fps", [24, 30, 60, 30 / 1.001])
def test_times_rounded_to_milliseconds_lose_no_frame(fps):
    times = steady(300, fps).round(3)
    assert sampling.whole_video(times, rate=fps, max_frames=1000).tolist() == list(range(300))


def test_the_frame_rate_of_the_file_hardly_changes_what_is_seen_of_a_whole_video():
    seen = {
        fps: steady(3 * fps, fps)[sampling.whole_video(steady(3 * fps, fps), rate=4, max_frames=250)]
        for fps in (12, 25, 30)
    }
    for fps in (12, 30):
        assert seen[fps] == pytest.approx(seen[25], abs=0.07)


def test_a_rate_above_the_file_s_gives_every_frame_once():
    assert sampling.whole_video(steady(40), rate=100, max_frames=250).tolist() == list(range(40))


def test_a_long_video_is_thinned_evenly_to_the_limit_with_both_ends():
    indices = sampling.whole_video(steady(1001), rate=25, max_frames=11)
    assert indices.tolist() == list(range(0, 1001, 100))


def test_a_variable_rate_is_sampled_by_time_not_by_number():
    times = np.concatenate([np.arange(50) * 0.02, 1 + np.arange(10) * 0.1])  # 50 fps, then 10 fps
    indices = sampling.whole_video(times, rate=10, max_frames=250)
    assert times[indices] == pytest.approx(np.arange(20) / 10, abs=1e-9)


def test_the_nearest_frame_is_chosen_on_either_side():
    times = np.array([0.0, 0.4, 1.0, 1.6, 2.0])
    assert sampling.whole_video(times, rate=1, max_frames=9).tolist() == [0, 2, 4]
    assert sampling.whole_video(times, rate=2, max_frames=9).tolist() == [0, 1, 2, 3, 4]
    assert sampling.whole_video(np.array([0.0, 0.4, 1.2, 2.0]), rate=1, max_frames=9).tolist() == [0, 2, 3]


@pytest.mark.parametrize("fps", [5, 12.5, 25])
def test_positions_are_seconds_whatever_the_frame_rate(fps):
    times = steady(int(2 * fps), fps)
    ids = sampling.position_ids(times, rate=25)
    assert ids.tolist() == [round(number * 25 / fps) for number in range(int(2 * fps))]
    assert ids.dtype == np.int64
