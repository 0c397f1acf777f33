import pytest

from neuface_ray.duration import format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.4, "3 s"), (59.7, "1 min 00 s"), (125, "2 min 05 s"), (7500, "2 h 05 min"), (90061, "25 h 01 min")],
)
def test_durations_are_short_and_of_equal_width(seconds, text):
    assert format_duration(seconds) == text
