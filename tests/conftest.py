"""What several rooms' tests share: one Ray for the session, a tiny real video, and a dataset annotated from it."""

from __future__ import annotations

import os

os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_DATA_DISABLE_PROGRESS_BARS="1",
    RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.2",
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # loopback only
)
os.environ.pop("RAY_ADDRESS", None)

from functools import partial
from pathlib import Path

import av
import hypothesis
import numpy as np
import pytest
import skimage.data
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("project", derandomize=True, deadline=None)
hypothesis.settings.load_profile("project")

FAST_FIT = (
    "annotator.name=direct_fitting",
    "annotator.direct_fitting.pose_steps=15",
    "annotator.direct_fitting.steps=25",
    "gate.max_nme=30",
    "ray.actors=1",
)
"""Overrides that make direct fitting take about a second for a dozen frames, at the price of accuracy, in one worker."""


@pytest.fixture(scope="session")
def ray_cluster():
    """A private Ray for all tests of the session; four logical CPUs, so that stages never wait for each other."""
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=150 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """A real face, uint8 [256, 256, 3] RGB: the astronaut Eileen Collins (NASA, public domain)."""
    return np.ascontiguousarray(skimage.data.astronaut()[0:256, 96:352])


@pytest.fixture(scope="session")
def tiny_video(portrait, tmp_path_factory) -> Path:
    """Twelve frames in which the face wanders over the picture."""
    path = tmp_path_factory.mktemp("video") / "astronaut.mp4"
    write_video(path, [np.roll(portrait, (frame, 2 * frame), axis=(0, 1)) for frame in range(12)])
    return path


@pytest.fixture(scope="session")
def tiny_dataset(tiny_video, tmp_path_factory) -> Path:
    """A dataset of ``tiny_video``, annotated by direct fitting without Ray."""
    from neuface_ray.config import load
    from neuface_ray.dataset import Output, finalise
    from neuface_ray.media import plan
    from neuface_ray.pipeline.annotate import provenance
    from neuface_ray.pipeline.config import AnnotateConfig
    from neuface_ray.pipeline.segment import AnnotationSession, annotate_segment
    from neuface_ray.pipeline.work import commit

    folder = tmp_path_factory.mktemp("dataset") / "tiny"
    config = load(AnnotateConfig, "neuface", [f"input={tiny_video}", f"output={folder}", *FAST_FIT])
    session = AnnotationSession.load(config)
    output = Output.open(str(folder), provenance(config, session, "test"))
    for segment in plan(config.input, session.media):
        assert commit(output, segment, annotate_segment(segment, config, session))
    finalise(output.store)
    return folder


@pytest.fixture(scope="session")
def head():
    """The packaged open head."""
    from neuface_ray.heads import load_head

    return load_head()


@pytest.fixture(scope="session")
def make(head):
    """Makes a clip and its annotation; see `make_clip`."""
    from tests.metrics.clips import make_clip

    return partial(make_clip, head)


@pytest.fixture(scope="session")
def single_views(head, tmp_path_factory):
    """Five people, two frames, one view."""
    from tests.training.made import make_dataset

    return make_dataset(tmp_path_factory.mktemp("single"), head, people=5)


@pytest.fixture(scope="session")
def three_views(head, tmp_path_factory):
    """Two people, two frames, three views."""
    from tests.training.made import make_dataset

    return make_dataset(tmp_path_factory.mktemp("three"), head, people=2, views=3)


def write_video(path: Path, frames: list[np.ndarray], fps: int = 25) -> Path:
    """Encodes uint8 RGB frames of even size as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    return path
