"""The compact encoder by itself: landmarks on photographs, landmarks and geometry on synthetic faces of known truth."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from neuface_ray.errors import DataError, UsageError
from neuface_ray.evaluation.baselines import ContenderSettings, build_contenders
from neuface_ray.evaluation.rendered_clips import capture
from neuface_ray.evaluation.report import Claim, Findings
from neuface_ray.evaluation.worker_state import close, kept
from neuface_ray.geometry.rotations import rotvec_to_matrix, yaw_pitch_roll_deg
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.media import MediaConfig, plan, prepare
from neuface_ray.media.detect import FaceDetector
from neuface_ray.methods.registry import Annotator
from neuface_ray.metrics import annotation as metrics
from neuface_ray.metrics.landmarks import project_landmarks, read_annotated, source_landmarks
from neuface_ray.metrics.statistics import compare, summarise
from neuface_ray.pipeline.parallel_map import call_all
from neuface_ray.synthesis.draw import Stage
from neuface_ray.synthesis.faces import SCHEME, Face, FaceOptions, landmarks_of, make_face, posed
from neuface_ray.synthesis.materials import Materials, check_materials
from neuface_ray.synthesis.motion import MotionRange
from neuface_ray.types import FaceClip, MeshSequence, Segment
from neuface_ray.uri import local_path

if TYPE_CHECKING:
    from neuface_ray.evaluation.run import EvaluateConfig

YAW_BINS_DEG = (0, 15, 30, 45, 60, 75)
PHOTO_MEDIAN, PHOTO_MEAN, GEOMETRY_GAIN_MM = 4.0, 6.0, 0.4
_FACE_IN_HALF = 1.9
_WRONG_FACE = 100.0

Row = dict[str, object]


@dataclass(frozen=True)
class EncoderEvaluation(Materials):
    """The encoder alone on photographs and on synthetic faces."""

    methods: list[str] = field(default_factory=lambda: ["encoder"])
    """What is evaluated: encoder, and for comparison flame_fitting and neuface."""
    settings: ContenderSettings = field(default_factory=ContenderSettings)
    """Settings of the methods."""
    photos: list[str] = field(default_factory=list)
    """Photographs, folders or globs of them. Files of 68 landmarks beside them (.pts, .npy, AFLW2000-3D's .mat) are used."""
    synthetic: int = 400
    """Synthetic faces, each of another person, spread evenly over the yaw bins; 0 for none."""
    seed: int = 90_001
    """Of the synthetic faces; one that no training set has."""
    size: int = 288
    """Side of the synthetic pictures in pixels; the face fills about half of it."""
    workers: int = 2
    """Processes, one thread each."""


def evaluate(config: EvaluateConfig) -> Findings:
    """Runs the evaluation ``encoder``.

    Raises:
        UsageError: nothing to evaluate, ``encoder`` is not among the methods, or a path or weight file does not exist.
    """
    given = config.encoder
    if "encoder" not in given.methods:
        raise UsageError(f"encoder.methods={given.methods} must name encoder, which the claims are about")
    if not given.photos and given.synthetic <= 0:
        raise UsageError("nothing to evaluate: give encoder.photos=[PATH, ...] or encoder.synthetic=NUMBER")
    check_materials("encoder", given)
    methods = build_contenders(given.methods, given.settings, load_head(config.head))
    media = MediaConfig(max_faces=1)
    stills = [segment for path in given.photos for segment in plan(path, media) if segment.is_image]
    if given.photos and not stills:
        raise UsageError(f"encoder.photos={given.photos}: no photograph lies there")
    jobs = [(config, item) for item in (*stills, *range(given.synthetic))]
    try:
        done = call_all(rows_of, jobs, [1.0] * len(jobs), given.workers, "encoder", "pictures")
    finally:
        close()
    facts = {
        "weights": f"{given.settings.weights or 'packaged'} (sha256 {methods['encoder'].weights_hash})",
        "head": config.head,
        "synthetic": f"{given.synthetic} faces of {given.size} px, seed {given.seed}; "
        + ", ".join(f"{kind} {folder}" for kind, folder in given.materials().items()),
    }
    return findings(
        [row for rows in done[: len(stills)] for row in rows], [r for rows in done[len(stills) :] for r in rows], facts
    )


def rows_of(job: tuple[EvaluateConfig, Segment | int]) -> list[Row]:
    """The rows of a photograph or of a synthetic face, for use in any process."""
    config, item = job
    return kept(workplace, config)(item)


@contextmanager
def workplace(config: EvaluateConfig) -> Iterator[Bench]:
    """Methods, detector and stage, opened once in a process."""
    given = config.encoder
    head = load_head(config.head)
    methods = build_contenders(given.methods, given.settings, head)
    media = MediaConfig(max_faces=1, crop_size=methods["encoder"].crop_size)
    with FaceDetector(media) as detector:
        yield Bench(given, head, methods, media, detector)


class Bench:
    """Does a job: a photograph (a segment) or the number of a synthetic face, to a row for each method."""

    def __init__(
        self,
        given: EncoderEvaluation,
        head: HeadModel,
        methods: dict[str, Annotator],
        media: MediaConfig,
        detector: FaceDetector,
    ):
        self.given, self.head, self.methods, self.media, self.detector = given, head, methods, media, detector
        self.stage = Stage(head) if given.synthetic > 0 else None
        self.options = face_options(given)

    def __call__(self, job: Segment | int) -> list[Row]:
        return self.synthetic(job) if isinstance(job, int) else self.photograph(job)

    def photograph(self, segment: Segment) -> list[Row]:
        """Errors on a photograph in percent; ``found`` False where there is no face or no picture."""
        path = Path(local_path(segment.views[0].uri))
        row: Row = {"photograph": f"{path.parent.name}/{path.name}", "found": False}
        try:
            clip = prepare(segment, self.media, self.detector)[0]
        except DataError as error:
            return [row | {"method": name, "note": error.code} for name in self.methods]
        if not clip.valid.any():
            return [row | {"method": name} for name in self.methods]
        truth, rows = read_annotated(path), []
        for name, method in self.methods.items():
            sequence = method.annotate(clip)
            found = source_landmarks(clip)[0, 0]
            error = {"nme": self.nme(clip, sequence, found, metrics.eye_distance(found, clip.landmark_scheme))}
            if truth is not None:
                points = project_landmarks(clip, sequence, self.head, "ibug68")[0, 0]
                error |= annotated_errors(points, truth)
            rows.append(row | {"method": name, "found": True} | error)
        return rows

    def synthetic(self, index: int) -> list[Row]:
        """Errors on a synthetic face, found in its picture like any other."""
        face = make_face(self.stage, self.options, self.given.seed, index)
        clip = capture(face.image, self.media, self.detector)
        row: Row = {"face": index, "yaw_deg": abs(yaw_deg(face.pose)), "found": bool(clip.valid.any())}
        if not row["found"]:
            return [row | {"method": name} for name in self.methods]
        points, eyes = self.truth(face)
        found = source_landmarks(clip)[0, 0]
        counted = self.head.embedding(SCHEME).valid.numpy()
        row["detector_nme"] = float(metrics.nme(found, points, eyes, counted))
        row |= self.neutral_errors("mean_head", np.zeros(1, np.float32), face.shape)
        rows = []
        for name, method in self.methods.items():
            sequence = method.annotate(clip)
            numbers = {
                "true_nme": self.nme(clip, sequence, points, eyes),
                "true_nme_box": self.nme(clip, sequence, points, metrics.box_size(points)),
                "found_nme": self.nme(clip, sequence, found, eyes),
                "rotation_deg": turn_between_deg(sequence.pose[0, 0], face.pose),
            }
            rows.append(row | {"method": name} | numbers | self.neutral_errors("neutral", sequence.shape[0, 0], face.shape))
        return rows

    def truth(self, face: Face) -> tuple[np.ndarray, float]:
        """True landmarks (478, 2) in pixels, and the outer-eye distance in pixels that the face would have from the front."""
        vertices = posed(self.head, face.shape, face.expression, face.pose)
        eyes = metrics.eye_distance(landmarks_of(self.head, vertices), SCHEME) * face.camera[0] * self.given.size / 2
        return (face.landmarks.astype(np.float64) + 1) * self.given.size / 2, float(eyes)

    def nme(self, clip: FaceClip, sequence: MeshSequence, points: np.ndarray, normaliser: float) -> float:
        """NME in percent of all points that the head has an embedding for."""
        scheme = clip.landmark_scheme
        own = project_landmarks(clip, sequence, self.head, scheme)[0, 0]
        return float(metrics.nme(own, points, normaliser, self.head.embedding(scheme).valid.numpy()))

    def neutral_errors(self, name: str, shape: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        """Mean distance of expressionless inner-face vertices in mm, aligned with and without a scale."""
        with torch.no_grad():
            own, true = (self.head(torch.from_numpy(s)).double().numpy() for s in (shape, truth))
        inner = self.head.regions["inner_face"].numpy()
        return {f"{name}_{how}_mm": float(metrics.mpve(own[inner], true[inner], how)) for how in ("similarity", "rigid")}


def face_options(given: EncoderEvaluation) -> FaceOptions:
    """Pictures in which the face takes about half the side, at any yaw to 75 degrees."""
    motion = MotionRange(yaw_deg=YAW_BINS_DEG[-1], pitch_deg=20, roll_deg=20, wide=1.0)
    return FaceOptions(
        size=given.size,
        images_per_person=1,
        crop_scale=_FACE_IN_HALF,
        motion=motion,
        **given.materials(),
        occluded=0.0,
    )


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


def findings(photographs: list[Row], faces: list[Row], facts: dict[str, object]) -> Findings:
    """Tables and claims from the rows of photographs and of synthetic faces."""
    result = Findings("The compact encoder", facts=facts)
    methods = list(dict.fromkeys(row["method"] for row in [*photographs, *faces]))
    if photographs:
        result.tables["Photographs"] = [photograph_line(name, of(photographs, name)) for name in methods]
        result.claims.append(photograph_claim(column(of(photographs, "encoder"), "nme")))
    if faces:
        lines = [line for name in methods for line in yaw_lines(name, of(faces, name))]
        result.tables["Synthetic faces by yaw, true and detected landmarks, geometry"] = lines
        result.claims.append(neutral_claim(of(faces, "encoder")))
    if photographs:
        result.tables["Photographs one by one"] = photographs
    return result


def photograph_line(method: str, rows: Sequence[Row]) -> Row:
    """Medians and means of NME in percent over the photographs in which a face is found."""
    line: Row = {"method": method, "photographs": len(rows), "with a face": sum(bool(row["found"]) for row in rows)}
    names = {"nme": "detected", "nme68": "annotated 68", "nme51": "inner 51"}
    for key, name in names.items():
        found = summarise(column(rows, key))
        line |= {f"{name} n": found.n, f"{name} median": found.median, f"{name} mean": found.mean}
    return line


def yaw_lines(method: str, rows: Sequence[Row]) -> Iterator[Row]:
    """A line for each yaw bin, and one for all."""
    yaw = column(rows, "yaw_deg")
    bins = list(itertools.pairwise(YAW_BINS_DEG))
    for low, high in [*bins, (0, 90)]:
        own = [row for row, angle in zip(rows, yaw, strict=True) if low <= angle < high]
        if not own:
            continue
        place = "all" if high == 90 else f"{low}-{high}"
        line: Row = {"method": method, "yaw": place, "faces": len(own)}
        line["not found %"] = 100 * float(np.mean([not row["found"] for row in own]))
        for key in ("true_nme", "true_nme_box", "found_nme", "detector_nme"):
            found = summarise(column(own, key))
            line |= {f"{key} median": found.median, f"{key} mean": found.mean}
        line["rotation deg"] = summarise(column(own, "rotation_deg")).mean
        for how in ("similarity", "rigid"):
            line |= {f"{name} {how} mm": summarise(column(own, f"{name}_{how}_mm")).mean for name in ("neutral", "mean_head")}
        yield line


def photograph_claim(errors: np.ndarray) -> Claim:
    """E1, from the NME (n,) of photographs in percent; NaN where no face is found."""
    found = summarise(errors)
    passed = found.n > 0 and found.median <= PHOTO_MEDIAN and found.mean <= PHOTO_MEAN
    figures = (
        f"median {found.median:.2f} %, mean {found.mean:.2f} % ({found.low:.2f} to {found.high:.2f}) of {found.n} photographs"
    )
    statement = f"encoder alone on photographs: median NME at most {PHOTO_MEDIAN} %, mean at most {PHOTO_MEAN} %"
    return Claim("E1", statement, bool(passed), figures)


def neutral_claim(rows: Sequence[Row]) -> Claim:
    """E2, from the encoder's rows: the expressionless inner face, similarity-aligned, against the mean head's."""
    base, own = column(rows, "mean_head_similarity_mm"), column(rows, "neutral_similarity_mm")
    gain = compare(base, own)
    figures = (
        f"{summarise(own).mean:.2f} mm against {summarise(base).mean:.2f} mm, gain {gain.difference:.2f} mm "
        f"({gain.low:.2f} to {gain.high:.2f}, {gain.n} persons)"
    )
    statement = f"encoder alone knows identities never seen: at least {GEOMETRY_GAIN_MM} mm below the mean head, inner face"
    return Claim("E2", statement, bool(gain.difference >= GEOMETRY_GAIN_MM and gain.low > 0), figures)


def of(rows: Sequence[Row], method: str) -> list[Row]:
    """The rows of a method."""
    return [row for row in rows if row["method"] == method]


def column(rows: Sequence[Row], key: str) -> np.ndarray:
    """(n,) numbers, NaN where a row has none."""
    return np.array([row.get(key, np.nan) for row in rows], np.float64)
