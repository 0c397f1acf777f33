"""Three short videos of ten frames, nine segments, and the dataset that an undisturbed run makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.faults.disturbed import Command, make_videos


@pytest.fixture(scope="session")
def videos(portrait: np.ndarray, tmp_path_factory) -> Path:
    return make_videos(tmp_path_factory.mktemp("faults") / "videos", portrait, videos=3)


@pytest.fixture(scope="session")
def undisturbed(videos: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    command = Command(videos, folder / "out", folder / "log", ("ray.num_cpus=1",))
    assert command.run() == 0, command.log.read_text()
    return command.output
