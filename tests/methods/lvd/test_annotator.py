import numpy as np
import pytest
import torch

from neuface_ray.errors import ModelFileError
from neuface_ray.geometry.cameras import project_weak
from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.heads import load_head
from neuface_ray.methods.glvd.annotator import Glvd
from neuface_ray.methods.glvd.network import GLVD
from neuface_ray.methods.lvd.annotator import Lvd, place_heads
from neuface_ray.methods.lvd.network import LVD, Descent
from neuface_ray.methods.lvd.settings import DescentSettings
from neuface_ray.networks.weight_file import save_network
from neuface_ray.types import Camera, FaceClip, Segment, View
from tests.training.made import codes, project

TINY = {"width": 16, "stacks": 1, "depth": 1, "crop_size": 64, "hidden": 32}


@pytest.fixture(scope="module")
def head():
    return load_head()


def make_clip(landmarks: np.ndarray, valid: np.ndarray, cameras=(None, None, None)) -> FaceClip:
    """A clip with given landmarks (F, V, 478, 2) and noise for pictures."""
    frames, views = valid.shape
    names = tuple(View(f"view{v}", f"{v}.png", cameras[v]) for v in range(views))
    rng = np.random.default_rng(0)
    return FaceClip(
        clip_id="clip",
        segment=Segment("segment", "sequence", names, 0, frames, 0, frames),
        track=0,
        crops=rng.integers(0, 255, (frames, views, 3, 64, 64), np.uint8),
        landmarks=landmarks.astype(np.float32) * valid[..., None, None],
        landmark_confidence=np.repeat(valid[..., None], 478, -1).astype(np.float32),
        landmark_scheme="mediapipe478",
        crop_to_image=np.tile(np.eye(3), (frames, views, 1, 1)),
        valid=valid,
        core=np.ones(frames, bool),
        frame_index=np.arange(frames),
        source_frame=np.zeros((frames, views), np.int64),
        timestamps_s=np.arange(frames) / 25,
        fps=25.0,
        image_size=np.full((views, 2), 64),
        face_px=np.full((frames, views), 50.0, np.float32),
        blur=np.full((frames, views), 50.0, np.float32),
    )


def annotator(head, network, tmp_path, **config):
    method = Glvd if isinstance(network, GLVD) else Lvd
    save_network(network, tmp_path / "weights.safetensors", {"head_model": head.id})
    return method(head, DescentSettings(weights=str(tmp_path / "weights.safetensors"), **config), "cpu")


class Known(LVD):
    """Arrives at the vertices that it was told."""

    def descend(self, scene, steps=10, start=None):
        truth = self.truth[: len(scene.valid)]
        return Descent(truth, torch.stack([truth, truth]))


def knowing(head, tmp_path, truth, **config):
    made = annotator(head, LVD(head.n_vertices, **TINY), tmp_path, **config)
    made.network.__class__ = Known
    made.network.truth = truth
    return made


def test_a_mesh_is_put_back_where_it_was_seen(head, tmp_path):
    numbers = codes(np.random.default_rng(1), head, 4, 1)
    tensors = {name: torch.from_numpy(value) for name, value in numbers.items()}
    posed = head(tensors["shape"], tensors["expression"], tensors["pose"])
    seen = project_weak(posed, tensors["camera"])
    shift = torch.nn.functional.pad(tensors["camera"][..., 1:], (0, 1))
    truth = tensors["camera"][..., :1, None] * (posed + shift[..., None, :])
    made = knowing(head, tmp_path, truth.flatten(0, 1))
    sequence = made.annotate(make_clip(project(head, numbers), np.ones((4, 1), bool)))
    vertices, camera = torch.from_numpy(sequence.vertices), torch.from_numpy(sequence.camera)
    assert torch.allclose(project_weak(vertices, camera), seen, atol=1e-4)
    assert np.abs(sequence.pose[..., :3] - numbers["pose"][..., :3]).max() < 0.12  # expressions tilt a rigid fit
    assert (vertices.norm(dim=-1).amax() < 0.2).all()
    assert sequence.shape.shape == (4, 1, 0)
    assert sequence.head_model == head.id


def test_a_frame_that_diverges_is_filled_and_named(head, tmp_path):
    numbers = codes(np.random.default_rng(1), head, 3, 1)
    truth = 8 * head.template.repeat(3, 1, 1) + torch.tensor([0.0, 0.1, 0.2])[:, None, None]
    clip = make_clip(project(head, numbers), np.ones((3, 1), bool))
    good = knowing(head, tmp_path, truth).annotate(clip)
    assert good.reasons == ()
    truth[1, 5] = float("nan")
    sequence = knowing(head, tmp_path, truth).annotate(clip)
    assert sequence.reasons == ("diverged",)
    assert np.allclose(sequence.vertices[1], (good.vertices[0] + good.vertices[2]) / 2, atol=1e-5)


@pytest.mark.parametrize("calibrated", [False, True])
def test_one_mesh_is_seen_from_all_views(head, tmp_path, calibrated):
    numbers = codes(np.random.default_rng(2), head, 2, 3)
    numbers["shape"] *= 0
    numbers["expression"] *= 0
    landmarks = project(head, numbers)
    clip = make_clip(landmarks, np.ones((2, 3), bool))
    if calibrated:
        turns = rotvec_to_matrix(torch.from_numpy(numbers["pose"][0, :, :3])).numpy()
        flip, cameras = np.diag([1.0, -1, -1]), []
        for v in range(3):
            world_to_camera = np.eye(4)
            world_to_camera[:3, :3] = flip @ turns[v] @ turns[0].T
            cameras.append(Camera(np.diag([900.0, 900, 1]), world_to_camera))
        clip = make_clip(landmarks, np.ones((2, 3), bool), cameras)
    placed = place_heads(clip, head)
    expected = rotvec_to_matrix(torch.from_numpy(numbers["pose"][..., :3]))
    rotation = placed[..., :3] / placed[..., :3].square().sum((-1, -2), keepdim=True).div(3).sqrt()
    assert torch.allclose(rotation, expected, atol=2e-3)
    frontal = np.abs(numbers["pose"][..., 1]).argmin(1)
    truth = torch.stack([head.template @ placed[f, v, :, :3].T + placed[f, v, :, 3] for f, v in enumerate(frontal)])
    sequence = knowing(head, tmp_path, truth).annotate(clip)
    points = head.landmarks(torch.from_numpy(sequence.vertices), "mediapipe478")
    assert np.abs(project_weak(points, torch.from_numpy(sequence.camera)).numpy() - landmarks).max() < 5e-3
    assert np.abs(sequence.pose[..., :3] - numbers["pose"][..., :3]).max() < 2e-3


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("kind", ["lvd", "glvd", "canonical"])
def test_real_networks_run_over_gaps_and_without_memory(head, tmp_path, kind, fuse):
    torch.manual_seed(0)
    if kind == "glvd":
        network = GLVD(head.n_vertices, heatmaps="landmarks", **TINY)
    else:
        network = LVD(head.n_vertices, canonical=kind == "canonical", **TINY)
    made = annotator(head, network, tmp_path, steps=2, batch=2, fuse_views=fuse)
    landmarks = project(head, codes(np.random.default_rng(3), head, 3, 3))
    valid = np.ones((3, 3), bool)
    valid[1] = False
    valid[0, 2] = False
    clip = make_clip(landmarks, valid)
    sequence = made.annotate(clip)
    assert sequence.annotator == made.name
    assert sequence.vertices.shape == (3, 3, head.n_vertices, 3)
    assert np.isfinite(sequence.vertices).all()
    assert np.isfinite(sequence.camera).all()
    between = (sequence.vertices[0, 0] + sequence.vertices[2, 0]) / 2
    assert np.allclose(sequence.vertices[1, 0], between, atol=1e-5)
    made.annotate(make_clip(landmarks[::-1].copy(), valid[::-1].copy()))
    assert np.array_equal(made.annotate(clip).vertices, sequence.vertices)
    descent, _ = made.watch(clip, 0, 1)
    assert (descent.keypoints is not None) == (kind == "glvd")
    nobody = made.annotate(make_clip(landmarks, np.zeros((3, 3), bool)))
    assert np.isfinite(nobody.vertices).all()
    assert not nobody.valid.any()


def test_weights_of_another_head_are_refused(head, tmp_path):
    save_network(LVD(12, **TINY), tmp_path / "w.safetensors", {"head_model": "flame/2020/abc"})
    with pytest.raises(ModelFileError, match=r"trained for head model flame/2020/abc"):
        Lvd(head, DescentSettings(weights=str(tmp_path / "w.safetensors")))
    with pytest.raises(ModelFileError, match=r"annotator\.lvd\.weights: no lvd weights at"):
        Lvd(head, DescentSettings(weights=str(tmp_path / "none")))
