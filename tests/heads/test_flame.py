"""FLAME's loader and forward pass, on files made in its formats, against a naive numpy twin."""

import numpy as np
import pytest
import torch

from neuface_ray.errors import ModelFileError
from neuface_ray.heads import load_head
from neuface_ray.heads.flame import convert_flame, load_flame
from tests.heads.flame_files import flame_arrays, landmark_arrays, write_flame_pickle, write_landmarks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("flame")


@pytest.fixture(scope="module")
def arrays():
    return flame_arrays()


@pytest.fixture(scope="module")
def pickled(folder, arrays):
    return write_flame_pickle(folder / "generic_model.pkl", arrays)


@pytest.fixture(scope="module")
def head(pickled, folder, arrays):
    embedding = write_landmarks(folder / "landmark_embedding.npy", landmark_arrays(len(arrays["f"])))
    return load_head(pickled, landmark_embedding=embedding).double()


def rodrigues(vector):
    angle = np.linalg.norm(vector) + 1e-8
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def naive_flame(arrays, beta, psi, pose):
    """FLAME's forward pass as its paper writes it, with loops and 4 x 4 matrices."""
    arrays = {key: np.asarray(value, dtype=np.float32).astype(np.float64) for key, value in arrays.items() if key != "f"}
    dirs = arrays["shapedirs"]
    shaped = arrays["v_template"] + dirs[:, :, : len(beta)] @ beta + dirs[:, :, 300 : 300 + len(psi)] @ psi
    joints = arrays["J_regressor"] @ shaped
    rotations = [rodrigues(vector) for vector in pose.reshape(5, 3)]
    feature = np.concatenate([(rotation - np.eye(3)).reshape(-1) for rotation in rotations[1:]])
    posed = shaped + arrays["posedirs"] @ feature
    chain = []
    for k, parent in enumerate([None, 0, 1, 1, 1]):
        local = np.eye(4)
        local[:3, :3] = rotations[k]
        local[:3, 3] = joints[k] - (joints[parent] if parent is not None else 0)
        chain.append(local if parent is None else chain[parent] @ local)
    result = np.zeros_like(posed)
    for i, point in enumerate(posed):
        blended = np.zeros((4, 4))
        for k in range(5):
            relative = chain[k].copy()
            relative[:3, 3] -= chain[k][:3, :3] @ joints[k]
            blended += arrays["weights"][i, k] * relative
        result[i] = (blended @ np.append(point, 1))[:3]
    return result


def test_forward_matches_the_naive_twin(head, arrays):
    random = np.random.default_rng(3)
    for scale in (0.0, 0.05, 1.2):
        beta, psi, pose = random.standard_normal(100), random.standard_normal(50), scale * random.standard_normal(15)
        expected = naive_flame(arrays, beta, psi, pose)
        result = head(*(torch.from_numpy(value) for value in (beta, psi, pose)))
        np.testing.assert_allclose(result.numpy(), expected, atol=2e-8)


def test_batched_forward_equals_single_ones(head):
    generator = torch.Generator().manual_seed(0)
    beta = torch.randn(3, 1, 20, generator=generator, dtype=torch.float64)
    psi = torch.randn(2, 10, generator=generator, dtype=torch.float64)
    pose = torch.randn(3, 2, 15, generator=generator, dtype=torch.float64)
    batch = head(beta, psi, pose)
    assert batch.shape == (3, 2, head.n_vertices, 3)
    torch.testing.assert_close(batch[2, 1], head(beta[2, 0], psi[1], pose[2, 1]))


@pytest.mark.parametrize(
    ("sparse", "old", "protocol"), [("csc", True, 2), ("csr", False, 2), ("csc", True, 0), ("csr", False, 4)]
)
def test_every_pickle_dialect_gives_the_same_model(folder, arrays, pickled, sparse, old, protocol):
    path = write_flame_pickle(folder / f"other_{sparse}_{old}_{protocol}.pkl", arrays, sparse, old, protocol)
    assert load_flame(path).hash == load_flame(pickled).hash


def test_npz_with_flames_keys_and_converted_npz(folder, arrays, pickled, head):
    np.savez(folder / "flame2023.npz", **arrays)
    assert load_head(folder / "flame2023.npz").hash == load_flame(pickled).hash
    embedding = folder / "landmark_embedding.npy"
    converted = convert_flame(pickled, folder / "converted.npz", landmark_embedding=embedding)
    again = load_head(folder / "converted.npz")
    assert again.id == converted.id == load_flame(pickled, landmark_embedding=embedding).id
    assert again.id != load_flame(pickled).id
    torch.testing.assert_close(again.template, converted.template)
    assert again.contour is not None


def test_regions_come_from_geometry(head):
    assert set(head.regions) >= {"skin", "face", "inner_face", "eyes", "left_eye", "right_eye"}
    assert head.regions["skin"].tolist() == list(range(162))
    assert (head.template[head.regions["left_eye"], 0] > 0).all()


def test_static_landmarks_and_dynamic_contour_follow_the_file(head, arrays):
    raw = landmark_arrays(len(arrays["f"]))
    vertices, faces = head.template, arrays["f"].astype(int)
    for yaw_deg, row in ((0, 0), (12, 12), (38.6, 39), (70, 39), (-1, 40), (-39, 78), (-80, 78)):
        pose = torch.zeros(15, dtype=torch.float64)
        pose[4] = np.radians(yaw_deg)
        points = head.landmarks(vertices, "ibug68", pose)
        for k in range(17):
            corners = vertices[faces[int(raw["dynamic_lmk_faces_idx"][row, k])]]
            torch.testing.assert_close(points[k], raw["dynamic_lmk_bary_coords"][row, k].double() @ corners)
        static = (vertices[faces[raw["static_lmk_faces_idx"]]].numpy() * raw["static_lmk_bary_coords"][..., None]).sum(1)
        np.testing.assert_allclose(points[17:].numpy(), static, atol=1e-8)


def test_partial_mediapipe_embedding_marks_the_rest_invalid(folder, arrays, pickled):
    wanted = np.array([7, 33, 263, 477])
    path = folder / "mediapipe.npz"
    np.savez(path, lmk_face_idx=np.arange(4), lmk_b_coords=np.full((4, 3), 1 / 3), landmark_indices=wanted)
    embedding = load_head(pickled, mediapipe_embedding=path).embedding("mediapipe478")
    assert embedding.valid.nonzero()[:, 0].tolist() == wanted.tolist()
    assert embedding.face_index[263] == 2


def test_missing_files_say_what_to_do(folder, pickled):
    with pytest.raises(ModelFileError, match=r"flame\.is\.tue\.mpg\.de.*Set `head`"):
        load_head(folder / "nowhere.pkl")
    with pytest.raises(ModelFileError, match=r"absent\.npy does not exist"):
        load_head(pickled, landmark_embedding=folder / "absent.npy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"posedirs": None}, "no posedirs"),
        ({"shapedirs": np.zeros((186, 3, 120))}, "identity_columns"),
        ({"weights": np.zeros((186, 4))}, "skinning_weights"),
        ({"f": np.full((4, 3), 186, np.uint32)}, "faces"),
        ({"kintree_table": np.array([[-1, 0, 0, 1, 1]])}, "joints"),
    ],
)
def test_inconsistent_models_are_refused_by_name(folder, arrays, change, message):
    broken = {key: value for key, value in (arrays | change).items() if value is not None}
    np.savez(folder / "broken.npz", **broken)
    with pytest.raises(ModelFileError, match=message):
        load_head(folder / "broken.npz")


def test_garbage_files_are_refused(folder):
    (folder / "text.pkl").write_text("not a pickle")
    (folder / "text.npz").write_text("not an archive")
    for name in ("text.pkl", "text.npz"):
        with pytest.raises(ModelFileError, match=name.replace(".", r"\.")):
            load_head(folder / name)
