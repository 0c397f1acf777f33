import numpy as np
import pytest
import torch

from neuface_ray.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from neuface_ray.heads.sequence_meshes import build_meshes
from neuface_ray.metrics import annotation as metrics
from neuface_ray.metrics.clip_quality import measure
from neuface_ray.metrics.landmarks import source_landmarks


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("as_vertices", [False, True])
def test_perfect_annotation(make, head, calibrated, as_vertices):
    clip, sequence = make(calibrated=calibrated, as_vertices=as_vertices)
    got = measure(clip, sequence, head)
    assert got.clip_nme == pytest.approx(0, abs=1e-3)
    assert got.nme.shape == got.yaw_deg.shape == got.visible_fraction.shape == (7, 2)
    np.testing.assert_allclose(got.yaw_deg, np.degrees(sequence.pose[..., 1]), atol=3 if as_vertices else 1e-3)
    assert (got.visible_fraction > 0.5).all()
    assert got.valid_fraction == 1
    assert got.cvd == pytest.approx(0, abs=0.05)
    assert got.shape_norm == pytest.approx(np.sqrt((sequence.shape[0, 0] ** 2).mean()), rel=1e-5)


def test_angles_of_turned_heads(make, head):
    clip, sequence = make(frames=4, views=1)
    for frame, angles in enumerate(([10, 0, 0], [0, -20, 0], [0, 0, 90], [5, 10, 180])):
        yaw, pitch, roll = np.radians(angles)
        y, x, z = (rotvec_to_matrix(torch.tensor(v)) for v in ([0.0, yaw, 0.0], [pitch, 0.0, 0.0], [0.0, 0.0, roll]))
        sequence.pose[frame, 0, :3] = matrix_to_rotvec(y @ x @ z).numpy()
    clip.valid[3] = False
    got = measure(clip, sequence, head)
    np.testing.assert_allclose(got.yaw_deg[:3, 0], [10, 0, 0], atol=1e-3)
    np.testing.assert_allclose(got.pitch_deg[:3, 0], [0, -20, 0], atol=1e-3)
    np.testing.assert_allclose(got.roll_deg[:3, 0], [0, 0, 90], atol=1e-3)
    assert np.isnan([got.yaw_deg[3], got.pitch_deg[3], got.roll_deg[3]]).all()


def test_a_shift_by_a_hundredth_of_the_eye_distance(make, head):
    clip, sequence = make(views=1)
    d = metrics.eye_distance(source_landmarks(clip), "mediapipe478")
    clip.landmarks[..., 0] += (d / 100 / 150)[..., None]
    got = measure(clip, sequence, head)
    np.testing.assert_allclose(got.nme, 1, rtol=1e-3)
    assert got.cvd is None


def test_sequence_numbers_are_those_of_the_posed_meshes(make, head):
    clip, sequence = make(views=2)
    got = measure(clip, sequence, head)
    shape, expression, pose = (torch.from_numpy(np.array(x)) for x in (sequence.shape, sequence.expression, sequence.pose))
    with torch.no_grad():
        posed = head(shape, expression, pose)
        centred = posed - head.joints(shape, expression)[..., :1, :]
        face = centred[:, :, head.regions["face"]].numpy()
        points = head.landmarks(centred, "ibug68").numpy()
    expected = np.mean([metrics.msi3d(face[:, v]).msi for v in range(2)])
    assert got.msi3d_vertices == pytest.approx(expected, rel=1e-4)
    assert got.msi3d_landmarks == pytest.approx(np.mean([metrics.msi3d(points[:, v]).msi for v in range(2)]), rel=1e-4)


def test_cvd_does_not_see_rotation_but_sees_shape(make, head):
    clip, sequence = make()
    sequence.shape = sequence.shape.copy()
    sequence.shape[:, 1, 0] += 1
    with_shape = measure(clip, sequence, head).cvd
    expected = head.shape_basis[..., 0].abs().sum(-1).mean().item() * 1000
    assert with_shape == pytest.approx(expected, rel=1e-3)
    turned = sequence.pose.copy()
    turned[:, 1, :3] += 0.5
    sequence.pose = turned
    assert measure(clip, sequence, head).cvd == pytest.approx(with_shape, rel=1e-4)


def test_invalid_frames_are_nan_and_interrupt_the_motion(make, head):
    clip, sequence = make(frames=9, views=1)
    clip.valid[4] = False
    clip.landmarks[4] = 0
    sequence.pose[4] = 9
    got = measure(clip, sequence, head)
    assert np.isnan(got.nme[4])
    assert np.isnan(got.yaw_deg[4])
    assert got.clip_nme == pytest.approx(0, abs=1e-3)
    assert got.valid_fraction == pytest.approx(8 / 9)
    centred = build_meshes(sequence, head)
    face = (centred.posed - centred.root[..., None, :])[:, 0, head.regions["face"].numpy()]
    assert got.msi3d_vertices == pytest.approx(metrics.msi3d(face, clip.valid[:, 0]).msi, rel=1e-5)
    clip.frame_index = np.arange(9) + (np.arange(9) >= 6)
    gap = clip.valid[:, 0].copy()
    dense = np.insert(face, 6, 0, axis=0)
    expected = metrics.msi3d(dense, np.insert(gap, 6, False)).msi
    assert measure(clip, sequence, head).msi3d_vertices == pytest.approx(expected, rel=1e-5)


def test_only_core_frames_count(make, head):
    clip, sequence = make(frames=8, views=1)
    clip.landmarks[6:] += 0.3
    clip.core[6:] = False
    got = measure(clip, sequence, head)
    assert got.nme[7, 0] > 5
    assert got.clip_nme == pytest.approx(0, abs=1e-3)


def test_nothing_valid(make, head):
    clip, sequence = make(frames=2)
    clip.valid[:] = False
    got = measure(clip, sequence, head)
    assert np.isnan([got.clip_nme, got.msi3d_landmarks, got.msi3d_vertices, got.cvd, got.shape_norm]).all()
    assert got.valid_fraction == 0


def test_a_face_half_outside_the_image(make, head):
    clip, sequence = make(views=1)
    whole = measure(clip, sequence, head).visible_fraction
    clip.crop_to_image[..., 0, 2] = 0
    cut = measure(clip, sequence, head).visible_fraction
    assert ((cut > 0.1 * whole) & (cut < 0.7 * whole)).all()
