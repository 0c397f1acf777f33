"""The compact encoder by itself: landmarks on photographs, landmarks and geometry on synthetic faces of known truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from neuface_ray.errors import DataError, UsageError
from neuface_ray.evaluation.baselines import Baselines, build_baselines, open_baselines
from neuface_ray.evaluation.encoder.criteria import YAW_BINS_DEG, make_report
from neuface_ray.evaluation.encoder.settings import EncoderEvaluation
from neuface_ray.evaluation.rendered_heads import render_to_clip
from neuface_ray.evaluation.report import Report
from neuface_ray.evaluation.tables import Row
from neuface_ray.geometry.rotations import rotvec_to_matrix, yaw_pitch_roll_deg
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.media import MediaConfig, plan, prepare
from neuface_ray.media.source import local_path
from neuface_ray.metrics import annotation as metrics
from neuface_ray.metrics.landmarks import project_landmarks, read_annotated, source_landmarks
from neuface_ray.pipeline.parallel_map import parallel_map
from neuface_ray.synthesis.faces import SCHEME, FaceOptions, SyntheticFace, head_landmarks, make_face, posed_vertices
from neuface_ray.synthesis.materials import check_materials
from neuface_ray.synthesis.motion import MotionRange
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.types import FaceClip, MeshSequence, Segment

_FACE_IN_HALF = 1.9
_WRONG_FACE = 100.0


def evaluate(settings: EncoderEvaluation, head: str, output: str | Path) -> Report:
    """Run the evaluation ``encoder``; nothing is written into ``output``.

    Raises:
        UsageError: nothing to evaluate, ``encoder`` is not among the methods, or a path or weight file does not exist.
    """
    if "encoder" not in settings.methods:
        raise UsageError(f"encoder.methods={settings.methods} must name encoder, which the criteria are about")
    if not settings.photos and settings.synthetic <= 0:
        raise UsageError("nothing to evaluate: give encoder.photos=[PATH, ...] or encoder.synthetic=NUMBER")
    check_materials("encoder", settings)
    annotators = build_baselines(settings, load_head(head))
    media = MediaConfig(max_faces=1)
    photographs = [segment for path in settings.photos for segment in plan(path, media) if segment.is_image]
    if settings.photos and not photographs:
        raise UsageError(f"encoder.photos={settings.photos}: no photograph lies there")
    items = [*photographs, *range(settings.synthetic)]
    open_state = partial(open_scorer, settings, head)
    rows = parallel_map(FaceScorer.score, items, settings.workers, "encoder", "pictures", open_state=open_state)
    materials = ", ".join(f"{kind} {folder}" for kind, folder in settings.materials().items())
    facts = {
        "weights": f"{settings.weights or 'packaged'} (sha256 {annotators['encoder'].weights_hash})",
        "head": head,
        "synthetic": f"{settings.synthetic} faces of {settings.size} px, seed {settings.seed}; {materials}",
    }
    count = len(photographs)
    return make_report([row for part in rows[:count] for row in part], [row for part in rows[count:] for row in part], facts)


@contextmanager
def open_scorer(settings: EncoderEvaluation, head: str) -> Iterator[FaceScorer]:
    """Open what scores faces in a process."""
    with open_baselines(settings, head, sized_by="encoder") as baselines:
        yield FaceScorer(settings, baselines)


class FaceScorer:
    """Scores all annotators on a photograph or a synthetic face."""

    def __init__(self, settings: EncoderEvaluation, baselines: Baselines):
        self.settings, self.baselines, self.head = settings, baselines, baselines.head
        self.renderer = Renderer(self.head) if settings.synthetic > 0 else None
        self.options = face_options(settings)

    def score(self, item: Segment | int) -> list[Row]:
        """A row for each annotator on a photograph (a segment) or on the synthetic face of a number."""
        return self.score_synthetic(item) if isinstance(item, int) else self.score_photograph(item)

    def score_photograph(self, segment: Segment) -> list[Row]:
        """Errors on a photograph in percent; ``found`` False where there is no face or no picture."""
        path, annotators = Path(local_path(segment.views[0].uri)), self.baselines.annotators
        row: Row = {"photograph": f"{path.parent.name}/{path.name}", "found": False}
        try:
            clip = prepare(segment, self.baselines.media, self.baselines.detector)[0]
        except DataError as error:
            return [row | {"method": name, "note": error.code} for name in annotators]
        if not clip.valid.any():
            return [row | {"method": name} for name in annotators]
        truth, rows = read_annotated(path), []
        for name, annotator in annotators.items():
            sequence = annotator.annotate(clip)
            detected = source_landmarks(clip)[0, 0]
            eyes = metrics.eye_distance(detected, clip.landmark_scheme)
            errors = {"nme": landmark_error(self.head, clip, sequence, detected, eyes)}
            if truth is not None:
                points = project_landmarks(clip, sequence, self.head, "ibug68")[0, 0]
                errors |= annotated_errors(points, truth)
            rows.append(row | {"method": name, "found": True} | errors)
        return rows

    def score_synthetic(self, index: int) -> list[Row]:
        """Errors on a synthetic face, found in its picture like any other."""
        face, annotators = make_face(self.renderer, self.options, self.settings.seed, index), self.baselines.annotators
        clip = render_to_clip(face.image, self.baselines.media, self.baselines.detector)
        row: Row = {"face": index, "yaw_deg": abs(yaw_deg(face.pose)), "found": bool(clip.valid.any())}
        if not row["found"]:
            return [row | {"method": name} for name in annotators]
        points, eyes = true_landmarks(self.head, face, self.settings.size)
        detected = source_landmarks(clip)[0, 0]
        embedded = self.head.embedding(SCHEME).valid.numpy()
        row["detector_nme"] = float(metrics.nme(detected, points, eyes, embedded))
        row |= neutral_errors(self.head, "mean_head", np.zeros(1, np.float32), face.shape)
        rows = []
        for name, annotator in annotators.items():
            sequence = annotator.annotate(clip)
            errors = {
                "true_nme": landmark_error(self.head, clip, sequence, points, eyes),
                "true_nme_box": landmark_error(self.head, clip, sequence, points, metrics.box_size(points)),
                "found_nme": landmark_error(self.head, clip, sequence, detected, eyes),
                "rotation_deg": turn_between_deg(sequence.pose[0, 0], face.pose),
            }
            rows.append(
                row | {"method": name} | errors | neutral_errors(self.head, "neutral", sequence.shape[0, 0], face.shape)
            )
        return rows


def face_options(settings: EncoderEvaluation) -> FaceOptions:
    """Options of pictures in which the face takes about half the side, at any yaw to 75 degrees."""
    motion = MotionRange(yaw_deg=YAW_BINS_DEG[-1], pitch_deg=20, roll_deg=20, wide=1.0)
    return FaceOptions(
        size=settings.size,
        images_per_person=1,
        crop_scale=_FACE_IN_HALF,
        motion=motion,
        occluded=0.0,
        **settings.materials(),
    )


def true_landmarks(head: HeadModel, face: SyntheticFace, size: int) -> tuple[np.ndarray, float]:
    """True landmarks (478, 2) in pixels of a picture of side ``size``, and the outer-eye distance in pixels from the front."""
    vertices = posed_vertices(head, face.shape, face.expression, face.pose)
    eyes = metrics.eye_distance(head_landmarks(head, vertices), SCHEME) * face.camera[0] * size / 2
    return (face.landmarks.astype(np.float64) + 1) * size / 2, float(eyes)


def landmark_error(head: HeadModel, clip: FaceClip, sequence: MeshSequence, points: np.ndarray, normaliser: float) -> float:
    """NME in percent of all points that the head has an embedding for."""
    scheme = clip.landmark_scheme
    predicted = project_landmarks(clip, sequence, head, scheme)[0, 0]
    return float(metrics.nme(predicted, points, normaliser, head.embedding(scheme).valid.numpy()))


def neutral_errors(head: HeadModel, name: str, shape: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean distance of expressionless inner-face vertices in mm, aligned with and without a scale."""
    with torch.no_grad():
        found, true = (head(torch.from_numpy(s)).double().numpy() for s in (shape, truth))
    inner = head.regions["inner_face"].numpy()
    return {f"{name}_{how}_mm": float(metrics.mpve(found[inner], true[inner], how)) for how in ("similarity", "rigid")}


def yaw_deg(pose: np.ndarray) -> float:
    """Yaw in degrees of a pose (15,)."""
    return float(yaw_pitch_roll_deg(rotvec_to_matrix(torch.from_numpy(np.asarray(pose[:3], np.float64))))[0])


def turn_between_deg(a: np.ndarray, b: np.ndarray) -> float:
    """Angle in degrees between the root rotations of two poses (15,)."""
    first, second = (rotvec_to_matrix(torch.from_numpy(np.asarray(pose[:3], np.float64))) for pose in (a, b))
    return float(torch.rad2deg((((first.T @ second).trace() - 1) / 2).clamp(-1, 1).acos()))


def annotated_errors(points: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """``nme68`` and ``nme51`` (without the contour) of points (68, 2); empty where the annotation means another face."""
    eyes = metrics.eye_distance(truth, "ibug68")
    error = 100 * np.linalg.norm(points - truth, axis=-1) / eyes
    if np.median(error) >= _WRONG_FACE:
        return {}
    return {"nme68": float(error.mean()), "nme51": float(error[17:].mean())}
