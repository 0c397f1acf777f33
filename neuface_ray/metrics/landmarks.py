"""Landmarks in source images: those of a clip, those of its annotated head, and those that a data set gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io
import torch

from neuface_ray.errors import DataError
from neuface_ray.heads.model import HeadModel
from neuface_ray.heads.sequence_meshes import build_meshes, head_camera
from neuface_ray.types import FaceClip, MeshSequence

_SCHEME_SIZE = 68


def source_landmarks(clip: FaceClip) -> np.ndarray:
    """The clip's own landmarks [F, V, L, 2] in pixels of the source images."""
    matrix = clip.crop_to_image
    return clip.landmarks @ matrix[..., :2, :2].swapaxes(-1, -2) + matrix[..., None, :2, 2]


def project_landmarks(clip: FaceClip, sequence: MeshSequence, head: HeadModel, scheme: str) -> np.ndarray:
    """The annotated head's landmarks [F, V, L, 2] in source pixels."""
    posed = torch.from_numpy(build_meshes(sequence, head).posed)
    points = head.landmarks(posed, scheme, pose=torch.from_numpy(sequence.pose)).numpy()
    frames, views = clip.valid.shape
    return np.stack([[head_camera(clip, sequence, f, v).project(points[f, v]) for v in range(views)] for f in range(frames)])


def read_annotated(picture: str | Path) -> np.ndarray | None:
    """The 68 points (68, 2), pixels with centres at +0.5, in a file beside a picture; None where there is none.

    Read are ``.pts`` (the 300-W challenge's format, which counts pixels from one), ``.npy`` of (68, 2) and AFLW2000-3D's
    ``.mat`` with ``pt3d_68``. Files with another number of points are passed over.

    Raises:
        DataError: such a file cannot be read (code ``bad_annotation``).
    """
    for suffix, read in _READERS.items():
        path = Path(picture).with_suffix(suffix)
        if path.exists():
            try:
                points = read(path)
            except (ValueError, KeyError, IndexError, OSError) as error:
                raise DataError(f"{path}: cannot be read as landmarks ({error})", code="bad_annotation") from error
            if points.shape == (_SCHEME_SIZE, 2):
                return points
    return None


def _read_pts(path: Path) -> np.ndarray:
    numbers = path.read_text().split("{")[1].split("}")[0].split()
    return np.array(numbers, np.float64).reshape(-1, 2) - 0.5


def _read_npy(path: Path) -> np.ndarray:
    return np.load(path, allow_pickle=False).astype(np.float64)


def _read_mat(path: Path) -> np.ndarray:
    return scipy.io.loadmat(path)["pt3d_68"][:2].T.astype(np.float64)


_READERS = {".pts": _read_pts, ".npy": _read_npy, ".mat": _read_mat}
