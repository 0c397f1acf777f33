import numpy as np
import pytest

from neuface_ray.media.decode import VideoFacts
from neuface_ray.media.synchrony import schedule


def view(count: int, fps: float, start_s: float = 0.0) -> VideoFacts:
    times = np.arange(count) / fps
    return VideoFacts(times, times, np.arange(count), True, fps, 64, 48, start_offset_s=start_s)


def paired(views: list[VideoFacts], offsets: list[float] | None = None, **sampling: float) -> list[list[int]]:
    return schedule(views, offsets or [0.0] * len(views), **sampling).frames.T.tolist()


def test_equal_views_are_paired_by_number() -> None:
    assert paired([view(5, 25), view(5, 25)]) == [list(range(5))] * 2
    assert paired([view(5, 25), view(3, 25)]) == [list(range(5)), [0, 1, 2, -1, -1]]
    assert paired([view(3, 25), view(5, 25)]) == [[0, 1, 2, -1, -1], list(range(5))]
    assert paired([view(10, 25), view(10, 25)], stride=4) == [[0, 4, 8]] * 2


def test_the_slowest_view_gives_the_instants() -> None:
    made = schedule([view(8, 24000 / 1001), view(4, 12000 / 1001)], [0, 0])
    assert made.frames.T.tolist() == [[0, 2, 4, 6], [0, 1, 2, 3]]
    assert (made.reference, made.fps) == (1, pytest.approx(12000 / 1001, abs=1e-6))
    assert paired([view(30, 30), view(25, 25)])[0] == [round(k * 1.2) for k in range(25)]
    assert paired([view(30, 30), view(10, 10)], stride=2) == [[0, 6, 12, 18, 24], [0, 2, 4, 6, 8]]
    assert paired([view(30, 30), view(10, 10)], fps=5) == [[0, 6, 12, 18, 24], [0, 2, 4, 6, 8]]


def test_offsets_and_late_beginnings() -> None:
    assert paired([view(5, 25), view(5, 25)], [0, 0.08]) == [list(range(5)), [-1, -1, 0, 1, 2]]
    assert paired([view(5, 25), view(5, 25)], [0.08, 0]) == [list(range(5)), [2, 3, 4, -1, -1]]
    assert paired([view(5, 25), view(5, 25, 0.08)]) == [list(range(5)), [-1, -1, 0, 1, 2]]
    assert paired([view(5, 25), view(5, 25, 0.08)], [0, -0.08]) == [list(range(5))] * 2
    assert paired([view(5, 25), view(5, 25)], [0, 0.012]) == [list(range(5))] * 2
    far = schedule([view(5, 25), view(5, 25)], [0, 9])
    assert (far.frames[:, 1] == -1).all()
    assert far.unpaired(0, 5)
    assert not schedule([view(4, 25), view(4, 25)], [0, 0.08]).unpaired(0, 4)
    assert schedule([view(5, 25), view(5, 25)], [0, 0.12]).unpaired(0, 5)


def test_ranges_count_from_the_containers_start() -> None:
    late = schedule([view(48, 24, 0.5)], [0])
    assert late.range_of(1.0, 1.5) == (12, 24)
    assert late.range_of(None, None) == (0, 48)
    assert late.range_of(0.4, 0.6) == (0, 3)
    assert schedule([view(48, 24)], [0]).range_of(1.0, 1.5) == (24, 36)
