from collections.abc import Iterator

import pytest

from neuface_ray.media import MediaConfig
from neuface_ray.media.detect import FaceDetector


@pytest.fixture(scope="package")
def detector() -> Iterator[FaceDetector]:
    with FaceDetector(MediaConfig()) as found:
        yield found
