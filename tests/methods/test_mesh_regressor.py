import numpy as np
import pytest
import torch
from torch import nn

from neuface_ray.errors import ModelFileError
from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.heads import load_head
from neuface_ray.methods.mesh_regressor import MeshRegressor, Reconstruction
from neuface_ray.networks.weight_file import save_network
from tests.methods.lvd.test_annotator import make_clip

TURN = torch.tensor([0.0, 0.4, 0.1])
SCALE, SHIFT = 7.5, torch.tensor([0.1, -0.2, 0.0])


class Nothing(nn.Module):
    kind, crop_size = "nothing", 64

    def __init__(self):
        super().__init__()
        self.options = {}
        self.unused = nn.Parameter(torch.zeros(1))


class Placed(MeshRegressor):
    """Answers with the template turned, scaled and shifted; not with numbers at the last frame, nor where no face is."""

    name = "placed"

    def reconstruct(self, clip):
        placed = SCALE * self.head.template @ rotvec_to_matrix(TURN).T + SHIFT
        vertices = placed.expand(*clip.valid.shape, -1, -1).clone()
        vertices[-1] = torch.nan
        vertices[~torch.as_tensor(clip.valid)] = torch.inf
        return Reconstruction(vertices, {"sureness": torch.arange(4.0)[:, None]})


@pytest.fixture(scope="module")
def head():
    return load_head()


def test_meshes_are_posed_scaled_checked_and_traced(head, tmp_path):
    path = tmp_path / "w.safetensors"
    save_network(Nothing(), path, {"head_model": head.id, "config_hash": "abc"})
    method = Placed(head, Nothing, path, "annotator.placed.weights", "cpu")
    valid = np.array([[True], [False], [True], [True]])
    found = method.annotate(make_clip(np.zeros((4, 1, 478, 2)), valid, (None,)))
    assert found.reasons == ("diverged",)
    assert found.metrics == {"sureness": pytest.approx((0 + 2 + 3) / 3)}
    assert found.provenance == {"weights_sha256": method.weights_hash, "training": "abc"}
    assert (found.annotator, method.crop_size) == ("placed", 64)
    assert np.allclose(found.pose[..., :3], TURN, atol=1e-4)
    assert np.allclose(found.camera[..., 0], SCALE, rtol=1e-5)
    seen = found.camera[..., None, :1] * (found.vertices[..., :2] + found.camera[..., None, 1:])
    placed = SCALE * head.template @ rotvec_to_matrix(TURN).T + SHIFT
    assert np.allclose(seen, placed[:, :2], atol=1e-4)
    assert np.isfinite(found.vertices).all()


def test_a_file_for_another_head_is_refused(head, tmp_path):
    save_network(Nothing(), tmp_path / "w.safetensors", {"head_model": "flame/2020/abc"})
    with pytest.raises(ModelFileError, match=r"annotator\.placed\.weights was trained for head model flame/2020/abc"):
        Placed(head, Nothing, tmp_path / "w.safetensors", "annotator.placed.weights", "cpu")
