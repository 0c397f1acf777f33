from functools import partial

import pytest

from neuface_ray.heads import load_head
from tests.evaluation.clips import make_clip


@pytest.fixture(scope="session")
def head():
    return load_head()


@pytest.fixture(scope="session")
def make(head):
    """Makes a clip and its annotation; see `make_clip`."""
    return partial(make_clip, head)
