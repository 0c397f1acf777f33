import pytest

from neuface_ray.heads import load_head


@pytest.fixture(scope="session")
def open_head():
    return load_head().double()


@pytest.fixture(scope="session")
def mirror(open_head):
    """The vertex on the other side of each vertex of the open head's symmetric template."""
    from scipy.spatial import cKDTree

    template = open_head.template.numpy()
    distance, index = cKDTree(template).query(template * [-1, 1, 1])
    assert distance.max() < 1e-6
    return index
