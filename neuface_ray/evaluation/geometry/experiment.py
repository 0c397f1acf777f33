"""Geometry: heads of known surface are rendered from several sides and compared with what annotators make of the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from neuface_ray.errors import DataError, UsageError
from neuface_ray.evaluation.baselines import Baselines, build_baselines, open_baselines
from neuface_ray.evaluation.geometry.criteria import ONE, SCANS, SYNTHETIC, TURNING, VIEWS, make_report
from neuface_ray.evaluation.geometry.settings import GeometryEvaluation
from neuface_ray.evaluation.rendered_heads import (
    ScanSubject,
    Subject,
    SyntheticSubject,
    as_video,
    as_views,
    evaluation_faces,
    render_to_clip,
)
from neuface_ray.evaluation.report import Report
from neuface_ray.evaluation.scan_benchmark import MEAN_HEAD, PredictedHead, score
from neuface_ray.evaluation.scans import ScanFiles, list_scans, normalise, read_scan, surface_sample
from neuface_ray.evaluation.tables import Row
from neuface_ray.heads import load_head
from neuface_ray.heads.sequence_meshes import build_meshes
from neuface_ray.methods.annotator import Annotator
from neuface_ray.pipeline.parallel_map import parallel_map
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.types import FaceClip

FPS = 25.0
_NOD_DEG = 8.0
_THUMBNAIL = 128


def evaluate(settings: GeometryEvaluation, head: str, output: str | Path) -> Report:
    """Run the evaluation ``geometry``; writes ``heads.png`` into the folder ``output``.

    Raises:
        UsageError: a criterion would be without measurements, or a path or weight file does not exist.
    """
    settings.check()
    annotators = build_baselines(settings, load_head(head))
    scans = [] if settings.scans is None else list_scans(settings.scans, settings.manifest)
    items = [*scans, *range(settings.identities)]
    open_state = partial(open_scorer, settings, head)
    results = parallel_map(HeadScorer.score, items, settings.workers, "geometry", "heads", open_state=open_state)
    rows = [row for result in results for row in result.rows]
    left_out = [result.left_out for result in results if result.left_out]
    if not rows:
        raise UsageError(f"geometry.scans={settings.scans}: no scan shows a face: {'; '.join(left_out)}")
    shown = sum(1 for result in results[: len(scans)] if result.rows)
    facts = describe(settings, head, annotators["encoder"].weights_hash, f"{shown} of {len(scans)} show a face")
    facts |= {"left out": "; ".join(left_out)} if left_out else {}
    report = make_report(rows, settings.together, settings.turn_deg, settings.frames > 0, facts)
    thumbnails = [result.thumbnail for result in results if result.thumbnail is not None]
    report.pictures.append(write_thumbnails(thumbnails, Path(output)))
    return report


def describe(settings: GeometryEvaluation, head: str, weights_hash: str | None, scans: str) -> dict[str, object]:
    """What was evaluated, for the report."""
    materials = ", ".join(f"{kind} {folder}" for kind, folder in settings.materials().items())
    people = f"{settings.identities} heads, seed {settings.seed}, identities x {settings.shape_sd}"
    views = f"yaws {settings.yaws}, together {settings.together}; {settings.frames} frames to {settings.turn_deg}"
    return {
        "weights": f"{settings.weights or 'packaged'} (sha256 {weights_hash})",
        "head": head,
        "scans": f"{settings.scans}: {scans}",
        "synthetic": f"{people}, expressions x {settings.expressions}; {materials}",
        "pictures": f"{settings.size} px; {views}",
    }


@dataclass(frozen=True)
class HeadResult:
    """Rows of one head and a small picture of it; ``left_out`` says why there are none."""

    rows: list[Row]
    thumbnail: np.ndarray | None = None
    left_out: str | None = None


@contextmanager
def open_scorer(settings: GeometryEvaluation, head: str) -> Iterator[HeadScorer]:
    """Open what scores heads in a process."""
    with open_baselines(settings, head, sized_by="encoder") as baselines:
        yield HeadScorer(settings, baselines)


class HeadScorer:
    """Renders a head and scores all annotators on the pictures."""

    def __init__(self, settings: GeometryEvaluation, baselines: Baselines):
        self.settings, self.baselines, self.head = settings, baselines, baselines.head
        self.renderer = Renderer(self.head) if settings.identities > 0 else None
        self.mean_head = PredictedHead.of(self.head, self.head.template.numpy())
        self.options = evaluation_faces(settings.size, settings.shape_sd, settings.expressions, settings)

    def score(self, item: ScanFiles | int) -> HeadResult:
        """Score a scan, or the synthetic head of a number."""
        try:
            subject = self.load(item)
        except DataError as error:
            if isinstance(item, int):
                raise
            return HeadResult([], left_out=str(error))
        rows = [{"set": SYNTHETIC if isinstance(item, int) else SCANS} | row for row in self.rows(subject)]
        small = cv2.resize(subject.render(20.0).image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
        return HeadResult(rows, small)

    def load(self, item: ScanFiles | int) -> Subject:
        """Load a subject. Raises DataError for a scan that cannot be read or shows no face."""
        if isinstance(item, int):
            return SyntheticSubject(self.renderer, self.options, self.settings.seed, item, self.settings.frames / FPS)
        reference = 1000 * self.head.landmarks(self.head.template, "mediapipe478").numpy()
        return ScanSubject(normalise(read_scan(item), self.detect, reference), self.settings.size)

    def detect(self, image: np.ndarray) -> np.ndarray | None:
        """MediaPipe's points (478, 2) of the largest face in a picture, None without one."""
        faces = self.baselines.detector.find(image)
        return faces[0].mesh if faces else None

    def rows(self, subject: Subject) -> Iterator[Row]:
        """A row for the mean head, and one for each annotator and each way of seeing."""
        points = surface_sample(subject.scan, self.settings.points)
        common: Row = {"head": subject.scan.name, "method": MEAN_HEAD, "seen": "", "turn": ""}
        reference = score(subject.scan, self.mean_head, points)
        yield common | reference
        for seen, yaw, clip in self.clips(subject):
            for name, annotator in self.baselines.annotators.items():
                if seen != TURNING or name in self.settings.methods_on_turning:
                    predicted = self.predict(annotator, clip)
                    failed = dict.fromkeys(reference, float("nan"))
                    scores = failed if predicted is None else score(subject.scan, predicted, points)
                    yield common | {"method": name, "seen": seen, "turn": "" if yaw is None else abs(yaw)} | scores

    def clips(self, subject: Subject) -> Iterator[tuple[str, float | None, FaceClip]]:
        """Every way of seeing a head: its name, the yaw of single views, and the clip."""
        settings, media, detector = self.settings, self.baselines.media, self.baselines.detector
        renders = {yaw: subject.render(yaw) for yaw in settings.yaws}
        stills = {yaw: render_to_clip(render.image, media, detector) for yaw, render in renders.items()}
        for yaw, still in stills.items():
            yield ONE, yaw, still
        together = settings.together
        yield VIEWS, None, as_views([stills[yaw] for yaw in together], [renders[yaw].camera for yaw in together])
        if settings.frames > 0:
            path = turning_path(settings.frames, settings.turn_deg)
            images = [subject.render(yaw, pitch, frame / FPS).image for frame, (yaw, pitch) in enumerate(path)]
            yield TURNING, None, as_video([render_to_clip(image, media, detector) for image in images], FPS)

    def predict(self, annotator: Annotator, clip: FaceClip) -> PredictedHead | None:
        """Predict the head of the identity in a clip, without expression; None where no picture shows a face.

        An annotator that gives vertices does not tell identity from expression: the mean of its canonical meshes is taken.
        """
        if not clip.valid.any():
            return None
        sequence = annotator.annotate(clip)
        if sequence.vertices is not None:
            return PredictedHead.of(self.head, build_meshes(sequence, self.head).canonical[sequence.valid].mean(0))
        shape = torch.from_numpy(sequence.shape[sequence.valid].mean(0)).to(annotator.device)
        with torch.no_grad():
            return PredictedHead.of(self.head, self.head(shape).cpu().numpy())


def turning_path(frames: int, turn_deg: float) -> list[tuple[float, float]]:
    """Yaw and pitch in degrees of each frame: once to one side, once to the other, nodding a little."""
    phase = 2 * np.pi * np.arange(frames) / frames
    return list(zip((turn_deg * np.sin(phase)).tolist(), (_NOD_DEG * np.sin(2 * phase)).tolist(), strict=True))


def write_thumbnails(pictures: list[np.ndarray], folder: Path) -> str:
    """Write pictures [S, S, 3] side by side as ``heads.png``; return the name."""
    columns = min(8, len(pictures))
    blank = np.zeros_like(pictures[0])
    filled = [*pictures, *[blank] * (-len(pictures) % columns)]
    lines = [np.concatenate(filled[start : start + columns], 1) for start in range(0, len(filled), columns)]
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "heads.png"), np.ascontiguousarray(np.concatenate(lines)[..., ::-1]))
    return "heads.png"
