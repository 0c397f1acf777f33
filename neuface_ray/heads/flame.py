"""FLAME (Li et al., SIGGRAPH Asia 2017) from the user's own file; it is licensed by its authors and not part of this project.

Every published form is read: the 2019, 2020 and 2023 pickles (Python 2, chumpy and scipy.sparse inside), the same arrays in an
``.npz``, and the ``.npz`` that `convert_flame` writes once so that no pickle need be opened again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from neuface_ray.errors import ModelFileError
from neuface_ray.heads.landmarks import N_CONTOUR, N_CONTOUR_ROWS, SCHEMES
from neuface_ray.heads.model import PARENTS, HeadModel, check_arrays
from neuface_ray.heads.unpickle import dense, load_object_array, load_pickle

HOW_TO_GET = (
    "FLAME is obtained from https://flame.is.tue.mpg.de after registration, under its own licence (non-commercial research; "
    "the 2023 Open version CC-BY-4.0). Set `head` to the file (generic_model.pkl, flame2023.pkl or an .npz), or leave it at "
    "open_head"
)
IDENTITY_COLUMNS, CONTOUR_WEIGHT = 300, 0.25
FACE_RADIUS, INNER_FACE_RADIUS = 0.095, 0.065
RAW_KEYS = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights")


def load_flame(
    path: str | Path,
    landmark_embedding: str | Path | None = None,
    mediapipe_embedding: str | Path | None = None,
    masks: str | Path | None = None,
    identity_columns: int = IDENTITY_COLUMNS,
) -> HeadModel:
    """A FLAME head model.

    Args:
        path: the model file, ``.pkl`` or ``.npz``.
        landmark_embedding: DECA's ``landmark_embedding.npy`` (static, dynamic and full 68-point landmarks); without it the
            head has no ``ibug68`` scheme.
        mediapipe_embedding: ``.npz`` with lmk_face_idx, lmk_b_coords, landmark_indices; gives ``mediapipe478``, of which only
            the listed points are valid.
        masks: ``FLAME_masks.pkl``, whose names become regions beside the ones found from geometry.
        identity_columns: how many of the columns of ``shapedirs`` are identity; the rest are expression.

    Raises:
        ModelFileError: a file is missing, refused or inconsistent.
    """
    path = _existing(path, HOW_TO_GET)
    raw, version = (load_pickle(path), path.stem) if path.suffix == ".pkl" else _read_npz(path)
    if not isinstance(raw, Mapping):
        raise ModelFileError(f"{path} holds a {type(raw).__name__}, not FLAME's dictionary of arrays. {HOW_TO_GET}")
    try:
        arrays = dict(raw) if "template" in raw else _from_flame_keys(raw, identity_columns)
        if masks is not None:
            arrays.update(
                {f"region/{name}": np.unique(index) for name, index in _dense_all(load_pickle(_existing(masks))).items()}
            )
        if landmark_embedding is not None:
            arrays.update(_ibug68(_dense_all(load_object_array(_existing(landmark_embedding)))))
        if mediapipe_embedding is not None:
            arrays.update(_mediapipe(_existing(mediapipe_embedding)))
        names = [f"expression_{index:03d}" for index in range(arrays["expression_basis"].shape[-1])]
        check_arrays(arrays, names)
    except (KeyError, ValueError, IndexError) as error:
        raise ModelFileError(f"{path} is not a usable FLAME model: {error}. {HOW_TO_GET}") from error
    return HeadModel(arrays, "flame", version, names, expression_bounded=False)


def convert_flame(path: str | Path, out: str | Path, **options) -> HeadModel:
    """Writes a FLAME model as a plain ``.npz`` (float32, int64) that `load_flame` reads with the same id; returns the model.

    Args:
        path, options: as for `load_flame`.
    """
    head = load_flame(path, **options)
    np.savez(out, metadata=np.array(json.dumps({"version": head.version})), **head.arrays())
    return head


def _existing(path: str | Path, remedy: str = "check the path") -> Path:
    if not Path(path).is_file():
        raise ModelFileError(f"{path} does not exist. {remedy}")
    return Path(path)


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], str]:
    try:
        with np.load(path, allow_pickle=False) as file:
            raw = {key: file[key] for key in file.files}
    except Exception as error:
        raise ModelFileError(f"{path} cannot be read as an .npz of plain arrays: {error}. {HOW_TO_GET}") from error
    metadata = json.loads(str(raw.pop("metadata"))) if "metadata" in raw else {}
    return raw, metadata.get("version", path.stem)


def _dense_all(raw: Any) -> dict[str, np.ndarray]:
    if not isinstance(raw, Mapping):
        raise ValueError(f"a dictionary of arrays was expected, not {type(raw).__name__}")
    return {key: dense(value) for key, value in raw.items()}


def _from_flame_keys(raw: Mapping[str, Any], identity_columns: int) -> dict[str, np.ndarray]:
    """The project's arrays from FLAME's (see its published model files for the keys)."""
    missing = [key for key in RAW_KEYS if key not in raw]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    read = {key: dense(raw[key]) for key in RAW_KEYS}
    parents = read["kintree_table"][0].astype(np.int64)
    if len(parents) != len(PARENTS) or tuple(parents[1:]) != PARENTS[1:]:
        raise ValueError(f"its joints hang together as {parents.tolist()}, FLAME's as {list(PARENTS)}")
    basis = read["shapedirs"].astype(np.float32)
    if basis.shape[-1] <= identity_columns:
        raise ValueError(f"shapedirs has {basis.shape[-1]} columns, so `identity_columns` must be less than that")
    template, faces = read["v_template"].astype(np.float32), read["f"].astype(np.int64)
    if faces.min() < 0 or faces.max() >= len(template):
        raise ValueError(f"its faces refer to vertices outside 0..{len(template) - 1}")
    return {
        "template": template,
        "faces": faces,
        "shape_basis": basis[..., :identity_columns],
        "expression_basis": basis[..., identity_columns:],
        "pose_basis": read["posedirs"].astype(np.float32),
        "joint_regressor": read["J_regressor"].astype(np.float32),
        "skinning_weights": read["weights"].astype(np.float32),
        **_regions(template, faces),
    }


def _regions(template: np.ndarray, faces: np.ndarray) -> dict[str, np.ndarray]:
    """Skin (the largest connected part), eyes (the others) and the face around the tip of the nose."""
    n = len(template)
    edges = coo_matrix((np.ones(len(faces) * 2), (faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel())), shape=(n, n))
    _, label = connected_components(edges, directed=False)
    skin = np.flatnonzero(label == np.bincount(label).argmax())
    rest = np.setdiff1d(np.arange(n), skin)
    distance = np.linalg.norm(template[skin] - template[skin[template[skin, 2].argmax()]], axis=1)
    regions = {"skin": skin, "face": skin[distance < FACE_RADIUS], "inner_face": skin[distance < INNER_FACE_RADIUS]}
    if len(rest):
        regions["eyes"] = rest
        regions["left_eye"], regions["right_eye"] = rest[template[rest, 0] > 0], rest[template[rest, 0] <= 0]
    return {f"region/{name}": index for name, index in regions.items()}


def _ibug68(raw: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The 68-point scheme: 17 fixed contour points and 51 static ones; and the contour that follows the yaw."""
    full = raw["full_lmk_faces_idx"].reshape(-1), raw["full_lmk_bary_coords"].reshape(-1, 3)
    rows = raw["dynamic_lmk_faces_idx"], raw["dynamic_lmk_bary_coords"]
    if rows[0].shape != (N_CONTOUR_ROWS, N_CONTOUR):
        raise ValueError(f"dynamic_lmk_faces_idx has shape {rows[0].shape}, expected {(N_CONTOUR_ROWS, N_CONTOUR)}")
    weight = np.ones(SCHEMES["ibug68"], np.float32)
    weight[:N_CONTOUR] = CONTOUR_WEIGHT
    barycentric = np.concatenate([full[1][:N_CONTOUR], raw["static_lmk_bary_coords"]])
    return {
        "landmark/ibug68/face_index": np.concatenate([full[0][:N_CONTOUR], raw["static_lmk_faces_idx"]]).astype(np.int64),
        "landmark/ibug68/barycentric": barycentric.astype(np.float32),
        "landmark/ibug68/valid": np.ones(SCHEMES["ibug68"], np.int64),
        "landmark/ibug68/weight": weight,
        "contour/face_index": rows[0].astype(np.int64),
        "contour/barycentric": rows[1].astype(np.float32),
    }


def _mediapipe(path: Path) -> dict[str, np.ndarray]:
    raw, _ = _read_npz(path)
    points, count = raw["landmark_indices"].astype(np.int64), SCHEMES["mediapipe478"]
    index, barycentric, valid = np.zeros(count, np.int64), np.zeros((count, 3), np.float32), np.zeros(count, np.int64)
    index[points], barycentric[points], valid[points] = raw["lmk_face_idx"], raw["lmk_b_coords"], 1
    prefix = "landmark/mediapipe478/"
    fields = {"face_index": index, "barycentric": barycentric, "valid": valid, "weight": valid.astype(np.float32)}
    return {prefix + key: value for key, value in fields.items()}
