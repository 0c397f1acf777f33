"""GLVD's comparison as a user starts it, with small random networks, and its measures on meshes whose errors are known."""

import json
import re

import numpy as np
import pytest
import torch

from jobs.evaluate import main
from neuface_ray.evaluation.glvd.scores import chamfer, descent_errors, mesh_errors, only_views
from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.heads import load_head
from neuface_ray.methods.encoder.network import CompactEncoder
from neuface_ray.methods.glvd.network import GLVD
from neuface_ray.methods.heatmap.keypoints import surface_keypoints
from neuface_ray.methods.lvd.labels import head_to_view
from neuface_ray.methods.lvd.network import LVD, Descent, apply_similarity
from neuface_ray.networks.weight_file import save_network
from neuface_ray.types import MeshSequence
from tests.fitting.made import make_clip
from tests.training.made import codes

TINY = {"width": 16, "stacks": 1, "depth": 1, "crop_size": 64, "hidden": 16}


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def files(head, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    networks = {"lvd": LVD(head.n_vertices, **TINY), "glvd": GLVD(head.n_vertices, heatmaps="none", **TINY)}
    for name, network in networks.items():
        network.vertex_field.begin_at(10 * head.template)
        save_network(network, folder / f"{name}.safetensors", {"head_model": head.id})
    save_network(CompactEncoder(head.id), folder / "encoder.safetensors", {})
    return folder


@pytest.fixture(scope="module")
def mesh(head):
    rng = np.random.default_rng(0)
    with torch.no_grad():
        return head(torch.from_numpy(rng.normal(size=head.n_shape).astype(np.float32))).numpy()


def command(files, folder, *more):
    given = [f"glvd_claims.{name}.weights={files / name}.safetensors" for name in ("lvd", "glvd")]
    given += [f"glvd_claims.encoder.path={files / 'encoder.safetensors'}", f"output={folder}", "glvd_claims.workers=1"]
    return ["--config", "configs/evaluate/glvd_claims.yaml", *given, *more]


def test_the_command_reports_criteria_tables_and_pictures(files, tmp_path, capsys):
    few = ["glvd_claims.identities=2", "glvd_claims.views=[1,2]", "glvd_claims.timed_frames=1", "glvd_claims.picture_px=160"]
    code = main(command(files, tmp_path / "out", *few, "glvd_claims.methods=[lvd,glvd,encoder]"))
    assert code == 4
    out = capsys.readouterr().out
    assert re.search(r"G1 (PASS|FAIL) .* mm against .* pictures", out)
    assert "G4 FAIL" in out  # NeuFace was not asked
    for name in ("error_against_step.png", "error_against_views.png", "descent.png"):
        assert (tmp_path / "out" / name).stat().st_size > 2000
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    lines = {(line["method"], line["views"]): line for line in report["tables"]["Errors in the front view, mm"]}
    assert set(lines) == {(method, views) for method in ("lvd", "glvd", "encoder") for views in (1, 2)}
    for line in lines.values():
        assert 0 < line["mpve_similarity_face_mm"] <= line["mpve_rigid_face_mm"] <= line["mpve_none_face_mm"]
        assert 0 < line["chamfer_surface_mm"] <= line["chamfer_vertex_mm"] < line["chamfer_surface_mm"] + 1
    assert len(report["tables"]["Error against step, mm"]) == 16
    times = {line["method"]: line["seconds_per_face"] for line in report["tables"]["Time for a face, one thread"]}
    assert {"glvd", "glvd, alone, 1 v", "glvd, alone, 3 v", "encoder"} <= set(times)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("glvd_claims.glvd.weights=none.safetensors", "no glvd weights at none.safetensors"),
        ("glvd_claims.methods=[glvd]", "must name lvd and glvd"),
        ("glvd_claims.methods=[lvd,glvd,mesh]", "'mesh' does not exist"),
        ("glvd_claims.views=[3,6]", "give 1 and then larger numbers"),
        ("glvd_claims.identities=0", "at least 1"),
        ("glvd_claims.picture_scale=1", "must be above"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_drawn(files, tmp_path, capsys, setting, message):
    assert main(command(files, tmp_path / "out", setting)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_mesh_errors_leave_out_what_their_alignment_takes_away(head, mesh):
    turn = rotvec_to_matrix(torch.tensor([0.1, -0.2, 0.05])).numpy()
    moved = mesh @ turn.T + np.float32([0.003, 0.004, 0.0])
    errors = mesh_errors(moved, mesh, head)
    assert errors["mpve_none_face_mm"] > 5
    assert errors["mpve_rigid_face_mm"] < 1e-2
    assert errors["keypoints_mm"] < 1e-2
    errors = mesh_errors(1.1 * moved, mesh, head)
    assert errors["mpve_rigid_face_mm"] > 2
    assert errors["mpve_similarity_face_mm"] < 1e-2


def test_chamfer_forgets_place_and_size_and_looks_one_way(head, mesh):
    turn = rotvec_to_matrix(torch.tensor([0.1, -0.2, 0.05])).numpy()
    assert chamfer((1.05 * mesh @ turn.T + 0.01).astype(np.float32), mesh, head)["chamfer_vertex_mm"] < 0.05
    far = mesh.copy()
    scalp = head.regions["scalp"].numpy()
    far[scalp] *= 1.3  # not compared: the way goes from the true face
    assert chamfer(far, mesh, head)["chamfer_surface_mm"] < 0.3
    rng = np.random.default_rng(0)
    rough = (mesh + 0.002 * rng.normal(size=mesh.shape)).astype(np.float32)
    assert 0.3 < chamfer(rough, mesh, head)["chamfer_surface_mm"] < 3


def test_errors_along_a_descent_are_in_millimetres_of_the_true_head(head):
    numbers = codes(np.random.default_rng(1), head, 1, 2)
    truth = MeshSequence("c", "truth", head.id, **numbers, valid=np.ones((1, 2), bool))
    tensors = {name: torch.from_numpy(value) for name, value in numbers.items()}
    placed = head_to_view(head, tensors)[0]
    wanted = apply_similarity(placed[0], head(tensors["shape"][0, 0], tensors["expression"][0, 0]))
    off = torch.tensor([0.01 * numbers["camera"][0, 0, 0], 0.0, 0.0])
    to_view = torch.cat([2 * torch.eye(3), torch.tensor([[0.1], [0.2], [0.3]])], 1)
    path = torch.stack([(wanted + step * off - to_view[:, 3]) / 2 for step in (2, 1, 0)])[:, None]
    guides = torch.stack([surface_keypoints(head, mesh, 18) for mesh in path[:, 0]])[:, None]
    found = descent_errors(Descent(path[-1], path, guides[-1], guides), to_view[None], truth, head)
    assert np.allclose(found["vertices"], [20, 10, 0], atol=0.02)
    assert np.allclose(found["keypoints"], [20, 10, 0], atol=0.02)
    assert "keypoints" not in descent_errors(Descent(path[-1], path), to_view[None], truth, head)


def test_a_clip_of_some_views_is_one_that_only_had_those(head):
    clip, _ = make_clip(head, frames=2, azimuths=(0.0, 0.4, 0.8), calibrated=True)
    some = only_views(clip, [2, 0])
    assert np.array_equal(some.landmarks, clip.landmarks[:, [2, 0]])
    assert [view.name for view in some.segment.views] == [clip.segment.views[2].name, clip.segment.views[0].name]
    assert some.valid.shape == some.crops.shape[:2] == (2, 2)
    assert some.image_size.shape == (2, 2)
