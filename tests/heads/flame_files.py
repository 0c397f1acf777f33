"""Makes files in FLAME's published formats: Python 2 pickles with chumpy and scipy.sparse objects, and its landmark files."""

import io
import pickle
import struct
import sys
import types
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
import scipy.sparse
import torch
import trimesh

N_SHAPE, N_EXPRESSION = 300, 100
PARENTS = np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32)


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2's strings, as FLAME's files have them."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_python2_string(self, value):
        self.write(b"T" + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_python2_string


@contextmanager
def chumpy():
    """A module ``chumpy.ch`` with a class ``Ch``, for as long as something is pickled."""
    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    ch = type("Ch", (), {"__module__": "chumpy.ch"})
    module.Ch = ch
    sys.modules["chumpy"], sys.modules["chumpy.ch"] = package, module

    def wrap(array):
        value = ch()
        value.__dict__.update({"x": array, "_dirty_vars": [], "_itr": None})
        return value

    try:
        yield wrap
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]


def flame_arrays(seed: int = 0, n_columns: int = N_SHAPE + N_EXPRESSION) -> dict[str, np.ndarray]:
    """Random FLAME arrays on a head of 162 vertices with two eyeballs of 12, small displacements, rows that sum to one."""
    random = np.random.default_rng(seed)
    skin = trimesh.creation.icosphere(subdivisions=2, radius=0.1)
    eye = trimesh.creation.icosphere(subdivisions=0, radius=0.012)
    places = [np.array([0.03, 0.02, 0.07]), np.array([-0.03, 0.02, 0.07])]
    vertices = np.concatenate([skin.vertices, *(eye.vertices + place for place in places)])
    faces = np.concatenate([skin.faces, eye.faces + 162, eye.faces + 174]).astype(np.uint32)
    n = len(vertices)
    weights = random.dirichlet(np.full(5, 0.3), n)
    regressor = np.zeros((5, n))
    for joint in range(5):
        chosen = random.choice(n, 12, replace=False)
        regressor[joint, chosen] = random.dirichlet(np.ones(12))
    return {
        "v_template": vertices,
        "f": faces,
        "shapedirs": 0.002 * random.standard_normal((n, 3, n_columns)),
        "posedirs": 0.001 * random.standard_normal((n, 3, 36)),
        "J_regressor": regressor,
        "J": regressor @ vertices,
        "kintree_table": PARENTS,
        "weights": weights,
    }


def write_flame_pickle(path: Path, arrays: dict[str, np.ndarray], sparse: str = "csc", old_modules: bool = True, protocol=2):
    """Writes arrays as FLAME's pickles do, with the module names of old numpy and scipy or of today's."""
    with chumpy() as wrap:
        kind = {"csc": scipy.sparse.csc_matrix, "csr": scipy.sparse.csr_matrix}[sparse]
        content = dict(arrays) | {"bs_type": b"lrotmin", "bs_style": b"lbs"}
        for key in ("v_template", "shapedirs", "posedirs", "weights"):
            content[key] = wrap(content[key])
        content["J_regressor"] = kind(content["J_regressor"])
        buffer = io.BytesIO()
        Python2Pickler(buffer, protocol=protocol).dump({key.encode(): value for key, value in content.items()})
    data = buffer.getvalue()
    if old_modules:
        data = data.replace(b"numpy._core.", b"numpy.core.").replace(b"scipy.sparse._cs", b"scipy.sparse.cs")
    path.write_bytes(data)
    return path


def landmark_arrays(n_faces: int, seed: int = 1) -> dict:
    """A landmark embedding as DECA's: numpy for the fixed points, torch tensors for the dynamic ones."""
    random = np.random.default_rng(seed)

    def points(*shape):
        return random.integers(0, n_faces, shape), random.dirichlet(np.ones(3), shape)

    static, dynamic, full = points(51), points(79, 17), points(1, 68)
    return {
        "static_lmk_faces_idx": static[0],
        "static_lmk_bary_coords": static[1],
        "dynamic_lmk_faces_idx": torch.as_tensor(dynamic[0]),
        "dynamic_lmk_bary_coords": torch.as_tensor(dynamic[1], dtype=torch.float32),
        "full_lmk_faces_idx": full[0],
        "full_lmk_bary_coords": full[1],
    }


def write_landmarks(path: Path, content: dict) -> Path:
    np.save(path, content, allow_pickle=True)
    return path
