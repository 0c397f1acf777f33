"""The canonical face and the identity nearest to it."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuface_ray.errors import ModelFileError
from neuface_ray.geometry.alignment import rigid
from neuface_ray.heads import load_head
from neuface_ray.media import bundle
from neuface_ray.media.bundle import canonical_face
from neuface_ray.synthesis.faces import FaceOptions, make_person
from neuface_ray.synthesis.population import canonical_identity
from neuface_ray.synthesis.renderer import Renderer

LEFT, RIGHT, TIP, CHIN = 263, 33, 4, 152


@pytest.fixture(scope="module")
def head():
    return load_head()


def test_the_canonical_face_is_symmetric_upright_and_of_human_size():
    face = canonical_face()
    assert face.shape == (468, 3)
    assert face[LEFT] == pytest.approx(face[RIGHT] * [-1, 1, 1], abs=1e-6)
    assert 0.08 < face[LEFT, 0] - face[RIGHT, 0] < 0.1
    assert face[TIP, 2] > face[[LEFT, RIGHT], 2].max() + 0.02
    assert face[CHIN, 1] == face[:, 1].min()


@pytest.mark.parametrize("content", [None, b"\x0a\xea\x94\x01", bytes(20_000)])
def test_a_bundle_without_the_canonical_face_is_refused(content, tmp_path, monkeypatch):
    path = tmp_path / "bundle.task"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("face_detector.tflite", b"")
        if content is not None:
            archive.writestr("geometry_pipeline_metadata_landmarks.binarypb", content)
    monkeypatch.setattr(bundle, "landmarker_bundle", lambda: str(path))
    with pytest.raises(ModelFileError, match=r"bundle\.task.*468"):
        canonical_face()


def test_the_canonical_identity_is_nearer_to_the_canonical_face_than_the_mean_head_and_plausible(head):
    identity, face = canonical_identity(head), canonical_face()
    known = head.embedding("mediapipe478").valid.numpy()[:468]

    def distance(shape: np.ndarray) -> float:
        points = head.landmarks(head(torch.from_numpy(shape).float()), "mediapipe478").double().numpy()[:468]
        return float(np.linalg.norm(rigid(points[known], face[known]).apply(points[known]) - face[known], axis=-1).mean())

    assert distance(identity) < 0.75 * distance(0 * identity)
    assert np.linalg.norm(identity) < np.sqrt(head.n_shape)


def test_the_canonical_identity_minimises_its_penalised_distance(head):
    """Its naive twin: no small step along any coefficient lowers the penalised distance after alignment."""
    identity, face = canonical_identity(head), canonical_face()
    embedding = head.embedding("mediapipe478")
    known, weight = embedding.valid.numpy()[:468], embedding.weight.numpy()[:468]

    def cost(shape: np.ndarray) -> float:
        vertices = head.template.double() + head.shape_basis.double() @ torch.from_numpy(shape)
        points = head.landmarks(vertices, "mediapipe478").numpy()[:468][known]
        moved = rigid(face[known], points, weight[known]).apply(face[known])
        return float((weight[known, None] * (moved - points) ** 2).sum() / 0.006**2 + (shape**2).sum())

    least = cost(identity)
    for coefficient in range(0, head.n_shape, 7):
        for step in (-0.05, 0.05):
            assert cost(identity + step * np.eye(head.n_shape)[coefficient]) > least


def test_people_stand_between_the_mean_head_and_the_canonical_face(head):
    renderer, narrow = Renderer(head), FaceOptions(shape_sd=1e-6)
    canonical = canonical_identity(head)
    shares = [make_person(renderer, replace(narrow, canonical=0.8), 3, number).shape @ canonical for number in range(40)]
    shares = np.array(shares) / (canonical @ canonical)
    assert shares.min() >= -1e-4
    assert shares.max() <= 0.8 + 1e-4
    assert np.ptp(shares) > 0.5
    assert abs(make_person(renderer, narrow, 3, 0).shape @ canonical) < 1e-3
