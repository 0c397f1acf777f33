import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from neuface_ray.geometry import rotations as R

torch.manual_seed(0)
AXES = torch.nn.functional.normalize(torch.randn(40, 3, dtype=torch.float64), dim=-1)
ANGLES = [0.0, 1e-12, 1e-8, 1e-4, 9.9e-4, 1.01e-3, 0.1, 1.0, 2.0, 3.0, math.pi - 1e-4, math.pi - 1e-9, math.pi]


def rotvecs(angle):
    return angle * AXES


@pytest.mark.parametrize("angle", [*ANGLES, 4.0, 7.0])
def test_matrix_agrees_with_scipy(angle):
    expected = Rotation.from_rotvec(rotvecs(angle).numpy()).as_matrix()
    np.testing.assert_allclose(R.rotvec_to_matrix(rotvecs(angle)).numpy(), expected, atol=1e-14)


@pytest.mark.parametrize("angle", ANGLES)
def test_quaternion_agrees_with_scipy(angle):
    expected = Rotation.from_rotvec(rotvecs(angle).numpy()).as_quat(canonical=True, scalar_first=True)
    got = R.rotvec_to_quaternion(rotvecs(angle)).numpy()
    np.testing.assert_allclose(got * np.sign((got * expected).sum(-1, keepdims=True)), expected, atol=1e-14)


@pytest.mark.parametrize("angle", ANGLES)
def test_round_trips(angle):
    vector = rotvecs(angle)
    matrix = R.rotvec_to_matrix(vector)
    near_pi = angle > math.pi - 1e-6
    for got in (R.matrix_to_rotvec(matrix), R.quaternion_to_rotvec(R.rotvec_to_quaternion(vector))):
        # At half a turn the axis may come back reversed: compare rotations there, vectors elsewhere.
        torch.testing.assert_close(R.rotvec_to_matrix(got), matrix, atol=1e-9 if near_pi else 1e-12, rtol=0)
        if not near_pi:
            torch.testing.assert_close(got, vector, atol=1e-11, rtol=0)
        assert (got.norm(dim=-1) <= math.pi + 1e-12).all()


def test_float32_keeps_its_precision():
    for angle in ANGLES:
        matrix = R.rotvec_to_matrix(rotvecs(angle).float())
        expected = Rotation.from_rotvec(rotvecs(angle).numpy()).as_matrix()
        np.testing.assert_allclose(matrix.numpy(), expected, atol=1e-6)
        torch.testing.assert_close(R.rotvec_to_matrix(R.matrix_to_rotvec(matrix)), matrix, atol=2e-6, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 5e-4, 1e-3, 0.3, 2.0, math.pi - 1e-3])
@pytest.mark.parametrize("function", [R.rotvec_to_matrix, R.rotvec_to_quaternion])
def test_gradients_from_rotation_vectors(function, angle):
    vector = rotvecs(angle)[:4].clone().requires_grad_()
    assert torch.autograd.gradcheck(function, (vector,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 5e-4, 0.3, 2.0, math.pi - 1e-3])
def test_gradients_of_round_trips(angle):
    """The derivative of matrix-to-vector along rotations: composed with its inverse it is the identity."""

    def through_matrix(vector):
        return R.matrix_to_rotvec(R.rotvec_to_matrix(vector))

    def through_quaternion(vector):
        return R.quaternion_to_rotvec(R.rotvec_to_quaternion(vector))

    vector = rotvecs(angle)[0].clone()
    for function in (through_matrix, through_quaternion):
        jacobian = torch.autograd.functional.jacobian(function, vector)
        torch.testing.assert_close(jacobian, torch.eye(3, dtype=torch.float64), atol=1e-5, rtol=0)


def test_gradients_of_float32_are_finite_at_zero():
    for function in (R.rotvec_to_matrix, R.rotvec_to_quaternion):
        vector = torch.zeros(2, 3, requires_grad=True)
        function(vector).sum().backward()
        assert torch.isfinite(vector.grad).all()


def test_skew_is_the_cross_product():
    a, b = torch.randn(2, 5, 3, dtype=torch.float64)
    torch.testing.assert_close((R.skew(a) @ b[..., None])[..., 0], torch.linalg.cross(a, b))


def test_matrix_to_quaternion_in_all_four_branches():
    half_turns = torch.diag_embed(torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]], dtype=torch.float64))
    expected = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(R.matrix_to_quaternion(half_turns).abs(), expected)


def test_opposite_quaternions_are_one_rotation():
    quaternion = R.rotvec_to_quaternion(rotvecs(2.5))
    torch.testing.assert_close(R.quaternion_to_rotvec(-quaternion), R.quaternion_to_rotvec(quaternion))


def test_rotation_6d():
    matrix = R.rotvec_to_matrix(rotvecs(1.3))
    columns = torch.cat([matrix[..., 0], matrix[..., 1]], -1)
    torch.testing.assert_close(R.rotation_6d_to_matrix(columns), matrix)
    rough = torch.randn(7, 6, dtype=torch.float64)
    got = R.rotation_6d_to_matrix(rough)
    torch.testing.assert_close(got @ got.transpose(-1, -2), torch.eye(3, dtype=torch.float64).expand(7, 3, 3))
    torch.testing.assert_close(torch.linalg.det(got), torch.ones(7, dtype=torch.float64))


def test_align_hemisphere_naive_twin():
    quaternion = torch.nn.functional.normalize(torch.randn(6, 3, 4, dtype=torch.float64), dim=-1)
    for dim in (0, 1, -2):
        got = R.align_hemisphere(quaternion, dim)
        expected = quaternion.clone().movedim(dim, 0)
        for t in range(1, expected.shape[0]):
            flip = (expected[t] * expected[t - 1]).sum(-1) < 0
            expected[t][flip] *= -1
        torch.testing.assert_close(got.movedim(dim, 0), expected)
        moved = got.movedim(dim, 0)
        assert ((moved[1:] * moved[:-1]).sum(-1) >= 0).all()


def test_align_hemisphere_across_half_a_turn():
    """A head that turns through 180 degrees: vectors jump, aligned quaternions do not."""
    angles = torch.linspace(3.0, 3.3, 20, dtype=torch.float64)
    matrix = R.rotvec_to_matrix(angles[:, None] * torch.tensor([0.0, 1, 0], dtype=torch.float64))
    aligned = R.align_hemisphere(R.matrix_to_quaternion(matrix), 0)
    assert (aligned[1:] - aligned[:-1]).abs().max() < 0.02


def test_yaw_pitch_roll():
    for yaw, pitch, roll in [(30, 10, -20), (-75, -40, 5), (0, 0, 0), (120, 60, 170)]:
        y, x, z = (
            Rotation.from_euler(axis, angle, degrees=True) for axis, angle in zip("yxz", (yaw, pitch, roll), strict=True)
        )
        angles = R.yaw_pitch_roll_deg(torch.from_numpy((y * x * z).as_matrix()))
        np.testing.assert_allclose(angles.numpy(), [yaw, pitch, roll], atol=1e-9)


def test_yaw_pitch_roll_naive_twin():
    """Angles read off the turned axes, one matrix at a time."""
    for seed in range(200):
        m = Rotation.random(random_state=seed).as_matrix()
        nose = m @ [0, 0, 1]
        yaw, pitch = np.arctan2(nose[0], nose[2]), np.arcsin(-nose[1])
        level = [np.cos(yaw), 0, -np.sin(yaw)]  # to the subject's left if the head did not lean
        upright = np.cross(nose, level)
        up = m @ [0, 1, 0]
        roll = np.arctan2(-up @ level, up @ upright)
        got = R.yaw_pitch_roll_deg(torch.from_numpy(m))
        np.testing.assert_allclose(got.numpy(), np.degrees([yaw, pitch, roll]), atol=1e-7)


def test_a_head_on_its_side_and_on_its_top():
    """Roll is counter-clockwise in the picture, x right and y up, and 180 has one sign."""
    for roll in (90, -90, 180, -179, 45):
        up = R.rotvec_to_matrix(torch.tensor([0, 0, np.radians(roll)])) @ torch.tensor([0.0, 1, 0], dtype=torch.float64)
        np.testing.assert_allclose(up[:2].numpy(), [-np.sin(np.radians(roll)), np.cos(np.radians(roll))], atol=1e-9)
        turned = R.rotvec_to_matrix(torch.tensor([0, 0, np.radians(roll)]))
        assert R.yaw_pitch_roll_deg(turned)[2] == pytest.approx(roll)
    over = torch.tensor([[-1.0, 0, 0], [-0.0, -1, 0], [0, 0, 1]], dtype=torch.float64)
    assert R.yaw_pitch_roll_deg(over)[2] == 180


def test_signs_of_head_angles():
    nose = torch.tensor([0.0, 0, 1], dtype=torch.float64)
    left = R.rotvec_to_matrix(torch.tensor([0, 0.5, 0], dtype=torch.float64))
    assert (left @ nose)[0] > 0
    assert R.yaw_pitch_roll_deg(left)[0] > 0
    down = R.rotvec_to_matrix(torch.tensor([0.5, 0, 0], dtype=torch.float64))
    assert (down @ nose)[1] < 0
    assert R.yaw_pitch_roll_deg(down)[1] > 0


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (2, 4, 3), (3,)])
def test_any_batch_dimensions(shape):
    vector = torch.rand(shape)
    matrix = R.rotvec_to_matrix(vector)
    assert matrix.shape == (*shape[:-1], 3, 3)
    assert R.matrix_to_quaternion(matrix).shape == (*shape[:-1], 4)
    assert R.matrix_to_rotvec(matrix).shape == shape
    assert R.yaw_pitch_roll_deg(matrix).shape == shape


def test_mean_agrees_with_scipy():
    turns = R.rotvec_to_matrix(torch.randn(2, 5, 4, 3, dtype=torch.float64))
    weight = torch.rand(2, 5, 4, dtype=torch.float64)
    mean = R.mean_rotation(turns, weight)
    for index in np.ndindex(2, 5):
        expected = Rotation.from_matrix(turns[index].numpy()).mean(weight[index].numpy()).as_matrix()
        np.testing.assert_allclose(mean[index].numpy(), expected, atol=1e-12)


def test_mean_ignores_what_has_no_weight():
    turns = R.rotvec_to_matrix(torch.randn(3, 3, dtype=torch.float64))
    only_second = torch.tensor([0.0, 1, 0], dtype=torch.float64)
    torch.testing.assert_close(R.mean_rotation(turns, only_second), turns[1])
    torch.testing.assert_close(R.mean_rotation(turns, 0 * only_second), torch.eye(3, dtype=torch.float64))
