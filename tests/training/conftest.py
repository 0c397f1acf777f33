import pytest

from neuface_ray.heads import load_head
from tests.training.made import make_dataset


@pytest.fixture(scope="session")
def head():
    return load_head()


@pytest.fixture(scope="session")
def single_views(head, tmp_path_factory):
    """Five people, two frames, one view."""
    return make_dataset(tmp_path_factory.mktemp("single"), head, people=5)


@pytest.fixture(scope="session")
def three_views(head, tmp_path_factory):
    """Two people, two frames, three views."""
    return make_dataset(tmp_path_factory.mktemp("three"), head, people=2, views=3)
