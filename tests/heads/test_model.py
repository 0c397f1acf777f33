"""What every head must obey, shown on the packaged open head and on a FLAME-like one."""

import numpy as np
import pytest
import torch

from neuface_ray.errors import UsageError
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.heads.model import arrays_hash, check_arrays
from tests.heads.flame_files import flame_arrays, landmark_arrays, write_flame_pickle, write_landmarks


@pytest.fixture(scope="module", params=["open_head", "flame"])
def any_head(request, open_head, tmp_path_factory):
    if request.param == "open_head":
        return open_head
    folder, arrays = tmp_path_factory.mktemp("heads"), flame_arrays()
    embedding = write_landmarks(folder / "landmarks.npy", landmark_arrays(len(arrays["f"])))
    return load_head(write_flame_pickle(folder / "flame.pkl", arrays), landmark_embedding=embedding).double()


def random_codes(head, *batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape, expression, pose = (
        torch.randn(*batch, size, generator=generator, dtype=torch.float64) for size in (head.n_shape, head.n_expression, 15)
    )
    return shape, expression.abs().clamp(max=1), 0.3 * pose


def test_zero_codes_give_the_template(any_head):
    zeros = [torch.zeros(size, dtype=torch.float64) for size in (any_head.n_shape, any_head.n_expression, 15)]
    torch.testing.assert_close(any_head(*zeros), any_head.template, atol=1e-8, rtol=0)
    torch.testing.assert_close(any_head(), any_head.template)
    torch.testing.assert_close(any_head.joints(), any_head.joint_regressor @ any_head.template)


def test_skinning_and_landmark_weights_sum_to_one(any_head):
    torch.testing.assert_close(any_head.skinning_weights.sum(1), torch.ones(any_head.n_vertices).double(), atol=1e-6, rtol=0)
    assert (any_head.skinning_weights >= 0).all()
    torch.testing.assert_close(any_head.joint_regressor.sum(1), torch.ones(5).double(), atol=1e-5, rtol=0)
    for barycentric in (any_head.embedding("ibug68").barycentric, any_head.contour.barycentric):
        assert (barycentric >= 0).all()
        torch.testing.assert_close(barycentric.sum(-1), torch.ones(barycentric.shape[:-1]).double(), atol=1e-5, rtol=0)


def test_root_rotation_is_rigid_about_the_root_joint(any_head):
    shape, expression, pose = random_codes(any_head)
    pose[3:] = 0
    still, turned = any_head(shape, expression), any_head(shape, expression, pose)
    chosen = torch.linspace(0, any_head.n_vertices - 1, 60).long()
    torch.testing.assert_close(torch.cdist(turned[chosen], turned[chosen]), torch.cdist(still[chosen], still[chosen]))
    root = any_head.joints(shape, expression)[0]
    torch.testing.assert_close((turned - root).norm(dim=-1), (still - root).norm(dim=-1))
    assert (turned - still).norm(dim=-1).max() > 1e-3


def test_short_pose_and_short_coefficients_mean_zeros(any_head):
    shape, expression, pose = random_codes(any_head, 2)
    for count in (3, 6, 9, 12):
        padded = torch.cat([pose[:, :count], torch.zeros(2, 15 - count, dtype=torch.float64)], -1)
        torch.testing.assert_close(any_head(shape, expression, pose[:, :count]), any_head(shape, expression, padded))
    padded = torch.cat([shape[:, :10], torch.zeros_like(shape[:, 10:])], -1)
    torch.testing.assert_close(any_head(shape[:, :10], None, pose), any_head(padded, 0 * expression, pose))


def test_batches_broadcast_and_may_be_empty(any_head):
    shape, expression, pose = random_codes(any_head, 4)
    batch = any_head(shape[:, None], expression[:3], pose[:3])
    assert batch.shape == (4, 3, any_head.n_vertices, 3)
    torch.testing.assert_close(batch[3, 1], any_head(shape[3], expression[1], pose[1]))
    empty = any_head(shape[:0], expression[:0], pose[:0])
    assert empty.shape == (0, any_head.n_vertices, 3)
    assert any_head.landmarks(empty, "ibug68", pose[:0]).shape == (0, 68, 3)
    assert any_head.landmarks(batch, "ibug68", pose[:3]).shape == (4, 3, 68, 3)


def test_gradients(any_head):
    shape, expression, pose = (
        code[..., :k].requires_grad_() for code, k in zip(random_codes(any_head), (2, 2, 15), strict=True)
    )
    chosen = torch.linspace(0, any_head.n_vertices - 1, 7).long()
    assert torch.autograd.gradcheck(lambda *codes: any_head(*codes)[chosen], (shape, expression, pose))
    at_rest = torch.zeros(15, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: any_head(None, None, p)[chosen], at_rest)


def test_float32_agrees_with_float64(any_head):
    codes = random_codes(any_head, 2)
    single = HeadModel(any_head.arrays(), "copy", "1", any_head.expression_names, any_head.expression_bounded)
    result = single(*(code.float() for code in codes))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), any_head(*codes), atol=2e-6, rtol=0)
    assert single.hash == any_head.hash


def test_hash_changes_with_data_and_not_with_storage(any_head):
    arrays = any_head.arrays()
    assert arrays_hash(arrays) == any_head.hash
    assert (
        arrays_hash({key: value.astype("f8") if value.dtype.kind == "f" else value for key, value in arrays.items()})
        == any_head.hash
    )
    for key in ("template", "skinning_weights", "landmark/ibug68/barycentric"):
        changed = {**arrays, key: arrays[key] + np.float32(0.001)}
        assert arrays_hash(changed) != any_head.hash
    assert any_head.id.endswith(any_head.hash[:12])


def test_wrong_sizes_and_schemes_are_usage_errors(any_head):
    with pytest.raises(UsageError, match="shape coefficients"):
        any_head(torch.zeros(any_head.n_shape + 1))
    with pytest.raises(UsageError, match="expression coefficients"):
        any_head(None, torch.zeros(any_head.n_expression + 1))
    with pytest.raises(UsageError, match="pose has 4 numbers"):
        any_head(pose=torch.zeros(4))
    with pytest.raises(UsageError, match="wflw98"):
        any_head.embedding("wflw98")


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("template", None),
        ("shape_basis", lambda value: value[1:]),
        ("faces", lambda value: value + len(value)),
        ("landmark/ibug68/face_index", lambda value: value[:51]),
    ],
)
def test_arrays_that_do_not_fit_are_named(any_head, key, change):
    arrays = any_head.arrays()
    value = arrays.pop(key)
    if change is not None:
        arrays[key] = change(value)
    with pytest.raises(ValueError, match=key.split("/")[1] if "/" in key else key):
        check_arrays(arrays, any_head.expression_names)
