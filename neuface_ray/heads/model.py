"""The parametric head model: one class for every head, which differs from another only by its arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from neuface_ray.errors import UsageError
from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.heads.landmarks import N_CONTOUR, SCHEMES, ContourEmbedding, LandmarkEmbedding
from neuface_ray.types import JOINT_NAMES

PARENTS = (-1, 0, 1, 1, 1)
N_JOINTS = len(JOINT_NAMES)


class HeadModel(nn.Module):
    """Template, linear identity and expression bases, linear blend skinning about five joints, landmark embeddings.

    The head frame is right-handed, metres, x to the subject's left, y up, z out of the face, origin near the centre of the
    head. Identity coefficients are standard deviations.

    Args:
        arrays: ``template`` [N, 3], ``faces`` [T, 3], ``shape_basis`` [N, 3, S], ``expression_basis`` [N, 3, E],
            ``joint_regressor`` [5, N], ``skinning_weights`` [N, 5]; optional ``pose_basis`` [N, 3, 36], ``uv`` [U, 2],
            ``uv_faces`` [T, 3], ``region/NAME`` vertex indices, ``landmark/SCHEME/{face_index, barycentric, valid, weight}``
            and ``contour/{face_index [79, 17], barycentric [79, 17, 3]}``.
        name, version: of the model. expression_names: of the E expressions, in order.
        expression_bounded: expression coefficients are weights in [0, 1] rather than standard deviations.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        name: str,
        version: str,
        expression_names: Sequence[str],
        expression_bounded: bool,
    ):
        super().__init__()
        self.name, self.version, self.hash = name, version, arrays_hash(arrays)
        self.expression_names, self.expression_bounded = tuple(expression_names), expression_bounded
        for key in ("template", "shape_basis", "expression_basis", "joint_regressor", "skinning_weights", "pose_basis", "uv"):
            self.register_buffer(key, _float_buffer(arrays[key]) if key in arrays else None)
        for key in ("faces", "uv_faces"):
            self.register_buffer(key, _index_buffer(arrays[key]) if key in arrays else None)
        self.register_buffer("template_joints", self.joint_regressor @ self.template)
        self.register_buffer("joint_shape_basis", torch.einsum("jn,ncs->jcs", self.joint_regressor, self.shape_basis))
        self.register_buffer("joint_expression_basis", torch.einsum("jn,nce->jce", self.joint_regressor, self.expression_basis))
        self._extras: list[str] = []
        for key, value in arrays.items():
            if "/" in key:
                self._extras.append(key)
                integral = np.issubdtype(value.dtype, np.integer)
                tensor = _index_buffer(value) if integral else _float_buffer(value)
                self.register_buffer(_buffer_name(key), tensor.bool() if key.endswith("/valid") else tensor)

    @property
    def id(self) -> str:
        """``name/version/hash``: what every stored number belongs to."""
        return f"{self.name}/{self.version}/{self.hash[:12]}"

    @property
    def n_vertices(self) -> int:
        return self.template.shape[0]

    @property
    def n_shape(self) -> int:
        return self.shape_basis.shape[-1]

    @property
    def n_expression(self) -> int:
        return self.expression_basis.shape[-1]

    @property
    def regions(self) -> dict[str, Tensor]:
        """Vertex indices (int64, ascending) of named regions."""
        names = [key.removeprefix("region/") for key in self._extras if key.startswith("region/")]
        return {name: getattr(self, _buffer_name(f"region/{name}")) for name in names}

    @property
    def articulated(self) -> tuple[str, ...]:
        """Joints that a fit may turn besides the root: the jaw, unless the expressions are weights that open it themselves."""
        return () if self.expression_bounded else ("jaw",)

    def forward(self, shape: Tensor | None = None, expression: Tensor | None = None, pose: Tensor | None = None) -> Tensor:
        """Posed vertices (FLAME, Li et al. 2017, eq. 1 to 5).

        Args:
            shape: (..., <= S). expression: (..., <= E). Missing coefficients are zero.
            pose: (..., 3k) axis-angle of the first k joints (root, neck, jaw, left eye, right eye), radians; missing joints
                stay at rest. The root turns the head about the root joint. With the root alone no skinning is computed.

        Returns:
            (..., N, 3) metres. Leading dimensions broadcast.

        Raises:
            UsageError: more coefficients than the model has.
        """
        vertices = self._blend(self.template, self.shape_basis, self.expression_basis, shape, expression)
        if pose is None:
            return vertices
        if pose.shape[-1] not in range(3, 3 * N_JOINTS + 1, 3):
            raise UsageError(f"pose has {pose.shape[-1]} numbers; it takes 3 for each of the first joints of {JOINT_NAMES}")
        joints = self.joints(shape, expression)
        rotations = rotvec_to_matrix(pose.unflatten(-1, (-1, 3)))
        if pose.shape[-1] == 3:
            root = joints[..., :1, :]
            return (vertices - root) @ rotations[..., 0, :, :].transpose(-1, -2) + root
        return self._skin(vertices, joints, rotations)

    def joints(self, shape: Tensor | None = None, expression: Tensor | None = None) -> Tensor:
        """Rest joints (..., 5, 3), metres, of shape (..., <= S) and expression (..., <= E) coefficients."""
        return self._blend(self.template_joints, self.joint_shape_basis, self.joint_expression_basis, shape, expression)

    def embedding(self, scheme: str) -> LandmarkEmbedding:
        """The fixed embedding of ``mediapipe478`` or ``ibug68``; raises UsageError when this head has none."""
        prefix = f"landmark/{scheme}/"
        if prefix + "face_index" not in self._extras:
            known = sorted({key.split("/")[1] for key in self._extras if key.startswith("landmark/")})
            raise UsageError(f"head {self.name!r} has no embedding of landmark scheme {scheme!r} (it has: {known})")
        fields = ("face_index", "barycentric", "valid", "weight")
        return LandmarkEmbedding(*(getattr(self, _buffer_name(prefix + field)) for field in fields))

    @property
    def contour(self) -> ContourEmbedding | None:
        """The pose-dependent jaw line of the 68-point scheme, or None."""
        if "contour/face_index" not in self._extras:
            return None
        fields = ("face_index", "barycentric")
        return ContourEmbedding(*(getattr(self, _buffer_name(f"contour/{field}")) for field in fields))

    def landmarks(self, vertices: Tensor, scheme: str, pose: Tensor | None = None) -> Tensor:
        """Landmarks of posed vertices.

        Args:
            vertices: (..., N, 3). scheme: ``mediapipe478`` or ``ibug68``.
            pose: (..., 3k) the pose of the vertices; with it the first 17 of the 68 points follow the visible contour.

        Returns:
            (..., L, 3); points without an embedding (``embedding(scheme).valid``) are at a meaningless place.
        """
        points = self.embedding(scheme).points(vertices, self.faces)
        contour = self.contour
        if scheme != "ibug68" or pose is None or contour is None:
            return points
        return torch.cat([contour.points(vertices, self.faces, pose), points[..., N_CONTOUR:, :]], -2)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that the model was made from, as they go into a file."""
        names = ("template", "shape_basis", "expression_basis", "joint_regressor", "skinning_weights", "pose_basis", "uv")
        keys = [*names, "faces", "uv_faces", *self._extras]
        tensors = {key: getattr(self, _buffer_name(key)) for key in keys}
        return {
            key: (value.long() if value.dtype == torch.bool else value).cpu().numpy()
            for key, value in tensors.items()
            if value is not None
        }

    def _blend(self, template, shape_basis, expression_basis, shape, expression) -> Tensor:
        result = template
        for basis, coefficients, what in ((shape_basis, shape, "shape"), (expression_basis, expression, "expression")):
            if coefficients is None:
                continue
            count = coefficients.shape[-1]
            if count > basis.shape[-1]:
                raise UsageError(f"{count} {what} coefficients given, but head {self.name!r} has {basis.shape[-1]}")
            columns = basis[..., :count].to(coefficients.dtype).flatten(0, 1)
            result = result.to(coefficients.dtype) + linear(coefficients, columns).unflatten(-1, template.shape)
        return result

    def _skin(self, vertices: Tensor, joints: Tensor, rotations: Tensor) -> Tensor:
        """Linear blend skinning of rest vertices (..., N, 3) by local rotations (..., k, 3, 3) of the first joints."""
        dtype = rotations.dtype
        vertices, joints = vertices.to(dtype), joints.to(dtype)
        missing = N_JOINTS - rotations.shape[-3]
        identity = torch.eye(3, dtype=dtype, device=rotations.device)
        if missing:
            rest = identity.expand(*rotations.shape[:-3], missing, 3, 3)
            rotations = torch.cat([rotations, rest], -3)
        if self.pose_basis is not None:
            features = (rotations[..., 1:, :, :] - identity).flatten(-3)
            vertices = vertices + linear(features, self.pose_basis.to(dtype).flatten(0, 1)).unflatten(-1, self.template.shape)
        turns, places = [rotations[..., 0, :, :]], [joints[..., 0, :]]
        for k in range(1, N_JOINTS):
            parent = PARENTS[k]
            offset = joints[..., k, :] - joints[..., parent, :]
            places.append(places[parent] + (turns[parent] @ offset[..., None])[..., 0])
            turns.append(turns[parent] @ rotations[..., k, :, :])
        turn = torch.stack(turns, -3)
        places = torch.stack(torch.broadcast_tensors(*places), -2)
        shift = places - (turn @ joints[..., None])[..., 0]
        weights = self.skinning_weights.to(dtype)
        blended = (weights @ turn.flatten(-2)).unflatten(-1, (3, 3))
        return (blended * vertices[..., None, :]).sum(-1) + weights @ shift

    def extra_repr(self) -> str:
        return f"{self.id}, vertices={self.n_vertices}, shape={self.n_shape}, expression={self.n_expression}"


def arrays_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, shapes and values, the same for a model however its file stored it (as float32 and int64)."""
    digest = hashlib.sha256()
    for key in sorted(arrays):
        value = np.asarray(arrays[key])
        value = value.astype("<f4" if np.issubdtype(value.dtype, np.floating) else "<i8")
        digest.update(f"{key}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def check_arrays(arrays: Mapping[str, np.ndarray], expression_names: Sequence[str]) -> None:
    """Raises ValueError that names the first array of a head model which is missing or does not fit the others."""
    required = ("template", "faces", "shape_basis", "expression_basis", "joint_regressor", "skinning_weights")
    for key in required:
        if key not in arrays:
            raise ValueError(f"array {key!r} is missing")
    n = arrays["template"].shape[0]
    expected = {
        "template": (n, 3),
        "faces": (arrays["faces"].shape[0], 3),
        "shape_basis": (n, 3, arrays["shape_basis"].shape[-1]),
        "expression_basis": (n, 3, len(expression_names)),
        "joint_regressor": (N_JOINTS, n),
        "skinning_weights": (n, N_JOINTS),
        "pose_basis": (n, 3, 9 * (N_JOINTS - 1)),
    }
    for key, shape in expected.items():
        if key in arrays and arrays[key].shape != shape:
            raise ValueError(f"array {key!r} has shape {arrays[key].shape}, expected {shape}")
    if arrays["faces"].min() < 0 or arrays["faces"].max() >= n:
        raise ValueError(f"array 'faces' refers to vertices outside 0..{n - 1}")
    for scheme, count in SCHEMES.items():
        index = arrays.get(f"landmark/{scheme}/face_index")
        if index is not None and index.shape != (count,):
            raise ValueError(f"landmark scheme {scheme!r} has {index.shape} points, expected {count}")


def _buffer_name(key: str) -> str:
    return key.replace("/", "__")


def _float_buffer(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))


def _index_buffer(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value, dtype=np.int64))
