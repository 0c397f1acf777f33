import numpy as np
import pytest

from neuface_ray.heads.sequence_meshes import build_meshes, head_camera
from neuface_ray.metrics.landmarks import source_landmarks
from neuface_ray.visualization import overlay


@pytest.fixture(scope="module")
def scene(make, head):
    clip, sequence = make(frames=3, views=1)
    made, points = build_meshes(sequence, head), source_landmarks(clip)
    image = np.random.default_rng(0).integers(0, 60, size=(480, 640, 3), dtype=np.uint8)
    frames = [
        overlay.AnnotatedFrame(image, points[f, 0], made.posed[f, 0], head_camera(clip, sequence, f, 0), made.canonical[f, 0])
        for f in range(3)
    ]
    return frames, overlay.face_region(points, (640, 480)), overlay.mesh_style(head)
