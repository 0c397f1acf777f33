"""The packaged open head: its anatomy, symmetry, expressions and landmarks."""

import numpy as np
import pytest
import torch

from neuface_ray.errors import ModelFileError
from neuface_ray.geometry.mesh import face_normals, unique_edges, vertex_normals
from neuface_ray.heads import ARKIT_NAMES, load_head
from neuface_ray.heads.build.contour import mirror_68
from neuface_ray.heads.file import save_head

LEFT_EYE = {"outer": 263, "inner": 362, "upper": 386, "lower": 374}
RIGHT_EYE = {"outer": 33, "inner": 133, "upper": 159, "lower": 145}


def blend(head, **weights):
    return head(None, torch.tensor([weights.get(name, 0.0) for name in ARKIT_NAMES], dtype=torch.float64))


def mediapipe(head, vertices):
    return head.landmarks(vertices, "mediapipe478")


def test_sizes_names_and_scale(open_head):
    assert open_head.expression_names == ARKIT_NAMES
    assert (open_head.n_shape, open_head.n_expression) == (100, 52)
    assert open_head.expression_bounded
    assert 4000 < open_head.n_vertices < 6000
    ears, scalp = open_head.template[open_head.regions["ears"]], open_head.template[open_head.regions["scalp"]]
    assert 0.16 < np.ptp(ears[:, 0].numpy()) < 0.20
    assert 0.14 < np.ptp(scalp[:, 0].numpy()) < 0.16
    assert open_head.template.abs().max() < 0.16
    nose = open_head.template[:, 2].argmax()
    assert open_head.template[nose, 0].abs() < 0.002
    assert load_head().id == load_head("open_head").id


def test_template_bases_and_weights_are_symmetric(open_head, mirror):
    flip = torch.tensor([-1.0, 1.0, 1.0]).double()
    torch.testing.assert_close(open_head.template[mirror] * flip, open_head.template, atol=1e-7, rtol=0)
    torch.testing.assert_close(open_head.shape_basis[mirror] * flip[:, None], open_head.shape_basis, atol=1e-7, rtol=0)
    swapped = open_head.skinning_weights[mirror][:, [0, 1, 2, 4, 3]]
    torch.testing.assert_close(swapped, open_head.skinning_weights, atol=1e-6, rtol=0)
    for name in ("jawOpen", "mouthPucker", "eyeBlinkLeft", "mouthSmileRight"):
        other = name.replace("Left", "#").replace("Right", "Left").replace("#", "Right")
        this, that = (open_head.expression_basis[..., ARKIT_NAMES.index(n)] for n in (name, other))
        torch.testing.assert_close(that[mirror] * flip, this, atol=2e-5, rtol=0)


def test_identity_is_ordered_and_breadth_varies_as_in_people(open_head):
    generator = torch.Generator().manual_seed(0)
    people = open_head(torch.randn(400, 100, generator=generator, dtype=torch.float64))
    breadth = people[:, open_head.regions["scalp"], 0]
    breadth = breadth.amax(1) - breadth.amin(1)
    assert 0.033 < breadth.std() / breadth.mean() < 0.047
    above_neck = np.setdiff1d(open_head.regions["skin"], open_head.regions["neck"])
    energy = open_head.shape_basis[above_neck].square().sum((0, 1))
    assert (energy[1:30] <= 1.05 * energy[:29]).all()
    assert (energy[30:] < 0.01 * energy[0]).all()
    assert energy[:20].sum() > 0.95 * energy.sum()


def test_half_precision_storage_is_exact_enough(open_head):
    """The rounding of float16 at each basis entry, summed in the worst case over plausible codes, stays below 0.05 mm."""
    for basis, size in ((open_head.shape_basis, 2.0), (open_head.expression_basis, 0.3)):
        half_step = torch.finfo(torch.float16).eps / 2 * basis.abs()
        typical = (half_step * size).square().sum(-1).sqrt()
        assert typical.max() < 5e-5
    assert open_head.template.numpy().dtype == np.float64


def test_triangles_face_outward(open_head):
    template, faces = open_head.template, open_head.faces
    for name in ("left_eye", "right_eye"):
        inside = torch.isin(faces, open_head.regions[name]).all(1)
        centre = template[open_head.regions[name]].mean(0)
        outward = template[faces[inside]].mean(1) - centre
        assert ((face_normals(template, faces[inside]) * outward).sum(-1) > 0).all()
    normals = vertex_normals(template, faces)
    assert normals[template[:, 2].argmax(), 2] > 0.8
    scalp = open_head.regions["scalp"]
    assert ((normals[scalp] * template[scalp]).sum(-1) > 0).all()
    face = np.setdiff1d(open_head.regions["face"], open_head.regions["lips"])
    assert (normals[face, 2] > -0.3).double().mean() > 0.95


def test_regions_divide_the_skin(open_head, mirror):
    regions = {name: set(index.tolist()) for name, index in open_head.regions.items()}
    assert regions["face"] | regions["ears"] | regions["neck"] | regions["scalp"] == regions["skin"]
    assert sum(len(regions[name]) for name in ("face", "ears", "neck", "scalp")) == len(regions["skin"])
    assert regions["inner_face"] < regions["face"]
    assert regions["lips"] < regions["skin"]
    assert regions["lids"] < regions["skin"]
    assert regions["left_eye"] | regions["right_eye"] == regions["eyes"]
    for name, index in regions.items():
        if name not in ("left_eye", "right_eye"):
            assert set(mirror[sorted(index)]) == index
    assert len(unique_edges(open_head.faces)) > len(open_head.faces)


def test_joints_are_where_they_belong(open_head):
    root, neck, jaw, left, right = open_head.joints()
    assert root.norm() < 0.003
    assert neck[1] < -0.04
    assert jaw[1] < 0
    eye = open_head.template[open_head.regions["left_eye"]]
    torch.testing.assert_close(left, eye.mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(left * torch.tensor([-1.0, 1, 1]).double(), right, atol=1e-6, rtol=0)
    distance = (eye - left).norm(dim=-1)
    assert distance.std() < 0.001
    assert 0.010 < distance.mean() < 0.018


def test_jaw_joint_moves_the_lower_face_only(open_head):
    pose = torch.zeros(15, dtype=torch.float64)
    pose[6] = 0.25
    moved = (open_head(None, None, pose) - open_head.template).norm(dim=-1)
    assert moved[open_head.skinning_weights[:, 2] == 0].max() < 1e-8
    assert moved[open_head.regions["eyes"]].max() < 1e-8
    points = mediapipe(open_head, open_head(None, None, pose))
    assert (mediapipe(open_head, open_head.template) - points)[152, 1] > 0.01


def test_jaw_open_moves_the_lower_lip_and_nothing_above_the_nose(open_head):
    still, opened = mediapipe(open_head, open_head.template), mediapipe(open_head, blend(open_head, jawOpen=1))
    drop = still[:, 1] - opened[:, 1]
    assert (drop[[14, 17, 87, 317, 152]] > 0.015).all()
    assert (drop[[13, 82, 312, 0]].abs() < 0.006).all()
    assert ((still - opened)[[9, 168, 33, 263, 105, 334, 473, 468]].norm(dim=-1) < 1e-4).all()
    assert (opened[13, 1] - opened[14, 1]) > 0.02
    moved = (blend(open_head, jawOpen=1) - open_head.template).norm(dim=-1)
    assert moved[open_head.regions["eyes"]].max() < 1e-9
    assert moved[open_head.regions["ears"]].max() < 0.012


@pytest.mark.parametrize(("side", "eye", "other"), [("Left", LEFT_EYE, RIGHT_EYE), ("Right", RIGHT_EYE, LEFT_EYE)])
def test_blink_closes_the_lids_of_its_own_eye(open_head, side, eye, other):
    still, closed = (mediapipe(open_head, v) for v in (open_head.template, blend(open_head, **{f"eyeBlink{side}": 1.0})))
    gap = still[eye["upper"], 1] - still[eye["lower"], 1]
    assert 0.005 < gap < 0.014
    assert (closed[eye["upper"], 1] - closed[eye["lower"], 1]).abs() < 0.003
    assert (still[eye["upper"]] - closed[eye["upper"]]).norm() > 0.005
    assert (still[eye["lower"]] - closed[eye["lower"]]).norm() < 0.003
    assert (still[list(other.values())] - closed[list(other.values())]).norm(dim=-1).max() < 1e-6


def test_gaze_turns_the_iris(open_head):
    still = mediapipe(open_head, open_head.template)
    turned = mediapipe(open_head, blend(open_head, eyeLookOutLeft=1, eyeLookInRight=1))
    assert (turned - still)[[468, 473], 0].min() > 0.003
    assert (turned - still)[4].norm() < 1e-6


def test_landmarks_lie_on_the_features_they_are_named_after(open_head):
    points, template, regions = mediapipe(open_head, open_head.template), open_head.template, open_head.regions

    def distance_to(region, landmarks):
        return torch.cdist(points[landmarks], template[regions[region]]).amin(1)

    assert (points[[33, 133, 362, 263], 0].diff() > 0).all()
    assert (distance_to("lids", [33, 133, 159, 145, 362, 263, 386, 374]) < 0.0025).all()
    assert (distance_to("lips", [13, 14, 61, 291, 0, 17, 78, 308, 37, 267]) < 0.003).all()
    assert (points[4] - template[template[:, 2].argmax()]).norm() < 0.006
    for iris, eye in ((468, "right_eye"), (473, "left_eye")):
        assert torch.isin(open_head.faces[open_head.embedding("mediapipe478").face_index[iris : iris + 5]], regions[eye]).all()
        radius = (points[iris + 1 : iris + 5] - points[iris]).norm(dim=-1)
        assert ((radius > 0.004) & (radius < 0.0085)).all()
    brows = points[[105, 334], 1]
    assert (brows - points[[159, 386], 1] > 0.010).all()
    assert (brows - points[[159, 386], 1] < 0.025).all()
    assert points[152, 1] < points[17, 1] - 0.02
    assert open_head.embedding("mediapipe478").valid.all()


def test_landmarks_are_mirror_images(open_head):
    flip = torch.tensor([-1.0, 1.0, 1.0]).double()
    points = mediapipe(open_head, open_head.template)
    nearest = torch.cdist(points * flip, points).min(1)
    assert nearest.values.max() < 1e-6
    assert nearest.indices[[33, 61, 468, 105]].tolist() == [263, 291, 473, 334]
    weights = open_head.embedding("mediapipe478").weight
    torch.testing.assert_close(weights[nearest.indices], weights)
    assert weights[[4, 33, 263, 61, 291]].min() > 2 * weights[[234, 454, 127, 356]].max()
    points = open_head.landmarks(open_head.template, "ibug68")
    torch.testing.assert_close(points[mirror_68()] * flip, points, atol=1e-6, rtol=0)


def contour(head, yaw_deg):
    pose = torch.zeros(6, dtype=torch.float64)
    pose[1] = np.radians(yaw_deg)
    return head.landmarks(head.template, "ibug68", pose)[:17]


def test_contour_is_continuous_mirrored_and_slides_forward_on_the_far_side(open_head):
    rows = torch.stack([contour(open_head, yaw) for yaw in range(-39, 40)])
    assert rows.diff(dim=0).norm(dim=-1).max() < 0.007
    flip = torch.tensor([-1.0, 1.0, 1.0]).double()
    torch.testing.assert_close(rows.flip(0).flip(1) * flip, rows, atol=1e-6, rtol=0)
    left, right = rows[78, 9:, 2] - rows[39, 9:, 2], rows[78, :8, 2] - rows[39, :8, 2]
    assert (left > 0.002).all()
    assert left.mean() > 0.015
    assert (right <= 1e-6).all()
    assert (rows[:, :8, 0] < 0).all()
    assert (rows[:, 9:, 0] > 0).all()
    assert (contour(open_head, 60) == contour(open_head, 39)).all()


def test_contour_is_the_outline_of_the_turned_face(open_head):
    """On the far side no point of the inner face reaches farther out than the contour by more than its forward tilt allows."""
    for yaw in (10, 25, 39):
        turn = torch.tensor([0.0, np.radians(yaw), 0.0], dtype=torch.float64)
        turned = open_head(pose=turn)
        points = open_head.landmarks(turned, "ibug68", turn)[10:17]
        face = turned[open_head.regions["face"]]
        for point in points:
            level = face[(face[:, 1] - point[1]).abs() < 0.004]
            assert level[:, 0].max() - point[0] < 0.010


def test_file_round_trip_and_refusals(open_head, tmp_path):
    head = load_head()
    path = tmp_path / "copy.safetensors"
    save_head(path, head.arrays(), head.name, head.version, head.expression_names, True, {"licence": "CC0-1.0"})
    assert load_head(path).id == head.id
    with pytest.raises(ModelFileError, match=r"does not exist"):
        load_head(tmp_path / "none.safetensors")
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match=r"copy\.safetensors is not a head model"):
        load_head(path)
    arrays = head.arrays()
    arrays["skinning_weights"] = arrays["skinning_weights"][:-1]
    save_head(path, arrays, head.name, head.version, head.expression_names, True, {})
    with pytest.raises(ModelFileError, match="skinning_weights"):
        load_head(path)
