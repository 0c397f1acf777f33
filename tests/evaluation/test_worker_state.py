"""A workplace is opened once for equal configurations and closed when another one comes."""

from contextlib import contextmanager
from dataclasses import dataclass

from neuface_ray.evaluation import worker_state as workplace


@dataclass
class Settings:
    number: int = 1


def test_one_at_a_time():
    seen = []

    @contextmanager
    def opened(settings):
        seen.append(f"open {settings.number}")
        yield settings.number
        seen.append(f"close {settings.number}")

    assert workplace.kept(opened, Settings(1)) == 1
    assert workplace.kept(opened, Settings(1)) == 1
    assert workplace.kept(opened, Settings(2)) == 2
    workplace.close()
    workplace.close()
    assert seen == ["open 1", "close 1", "open 2", "close 2"]
    assert workplace.kept(opened, Settings(2)) == 2
    workplace.close()
    assert seen[4:] == ["open 2", "close 2"]
