"""GLVD against LVD, the encoder, direct fitting and NeuFace on synthetic people, from one, three and six views, one command.

Source of the criteria: Caselles Rico and Moreno-Noguer, "GLVD: Guided Learned Vertex Descent", NeurIPS 2025. All methods get
what a detector finds in the pictures; the views are calibrated, which methods that can use cameras do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from neuface_ray.errors import UsageError
from neuface_ray.evaluation.charts import pyplot
from neuface_ray.evaluation.glvd import plots
from neuface_ray.evaluation.glvd.criteria import all_criteria, make_tables
from neuface_ray.evaluation.glvd.scores import chamfer, descent_errors, mesh_errors, only_views
from neuface_ray.evaluation.glvd.settings import GlvdEvaluation
from neuface_ray.evaluation.glvd.speed import time_methods
from neuface_ray.evaluation.neuface.scores import score
from neuface_ray.evaluation.report import Report
from neuface_ray.evaluation.synthetic_clips import GroundTruthClip, make_ground_truth_clip, real_clip, wide_faces
from neuface_ray.evaluation.tables import Row
from neuface_ray.geometry.alignment import rigid
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.heads.sequence_meshes import build_meshes
from neuface_ray.methods.annotator import Annotator
from neuface_ray.methods.lvd.annotator import VertexDescent
from neuface_ray.methods.neuface.settings import NeufaceSettings
from neuface_ray.methods.registry import AnnotatorConfig, annotators, build_annotator
from neuface_ray.metrics.annotation import MM
from neuface_ray.pipeline.parallel_map import parallel_map
from neuface_ray.sections import entry_of
from neuface_ray.synthesis.materials import check_materials
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.synthesis.sequences import RIG_DEG, SequenceOptions

LONGEST = 15
_PER_VIEW = ("shape", "expression", "pose", "camera", "translation", "valid")
Curves = dict[tuple[str, int], dict[str, np.ndarray]]
"""Errors (T + 1,) along descents, by method and number of views, then by what is measured."""


def evaluate(settings: GlvdEvaluation, head: str, output: str | Path) -> Report:
    """Run the comparison; see `GlvdEvaluation` for what it takes.

    Raises:
        UsageError: settings that cannot work, or a missing package. ModelFileError: weights that are missing or do not match.
    """
    started = time.monotonic()
    check(settings)
    pyplot()  # a missing package is named before anything is computed
    scorer, folder = SubjectScorer(settings, load_head(head)), Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    items: list[int | str] = [*settings.clips, *range(settings.identities)]
    open_state = partial(open_scorer, settings, head)
    results = parallel_map(SubjectScorer.score, items, settings.workers, "glvd_claims", "people", open_state=open_state)
    real, people = results[: len(settings.clips)], results[len(settings.clips) :]
    speed = scorer.time_methods(settings.identities)
    rows, curves = [row for result in people for row in result.rows], mean_curves(people)
    vertex_curves = {key: errors["vertices"] for key, errors in curves.items()}
    report = Report("GLVD against LVD, the encoder, direct fitting and NeuFace")
    report.criteria = all_criteria(rows, vertex_curves, speed)
    report.tables = make_tables(rows, speed, [row for result in real for row in result.rows])
    report.tables["Error against step, mm"] = curve_table(curves)
    report.pictures = draw_charts(scorer, rows, vertex_curves, folder)
    report.facts = describe(settings, scorer) | {"seconds in all": round(time.monotonic() - started, 1)}
    (folder / "rows.json").write_text(json.dumps({"rows": rows, "speed": speed}, default=float))
    return report


def check(settings: GlvdEvaluation) -> None:
    """Raise UsageError for settings that cannot work."""
    for name in settings.methods:
        entry_of(annotators(), "glvd_claims.methods", name)
    if not {"lvd", "glvd"} <= set(settings.methods):
        raise UsageError(f"glvd_claims.methods={settings.methods} must name lvd and glvd, which the criteria are about")
    views = settings.views
    if len(views) < 2 or views[0] != 1 or sorted(set(views)) != views or views[-1] > len(RIG_DEG):
        raise UsageError(f"glvd_claims.views={views}: give 1 and then larger numbers, up to {len(RIG_DEG)}")
    if settings.identities < 1 or settings.timed_frames < 1:
        raise UsageError("glvd_claims.identities and glvd_claims.timed_frames are at least 1")
    if settings.picture_scale <= settings.media.crop_scale:
        raise UsageError("glvd_claims.picture_scale must be above glvd_claims.media.crop_scale")
    check_materials("glvd_claims", settings)


def describe(settings: GlvdEvaluation, scorer: SubjectScorer) -> dict[str, object]:
    """What was evaluated, for the report."""
    hashes = {name: annotator.weights_hash for name, annotator in scorer.annotators.items() if annotator.weights_hash}
    materials = ", ".join(f"{kind} {folder}" for kind, folder in settings.materials().items())
    people = f"{settings.identities} with seed {settings.seed}, {max(settings.views)} views each"
    facts: dict[str, object] = {f"weights of {name}": f"sha256 {value[:12]}" for name, value in hashes.items()}
    return facts | {"head": scorer.head.id, "people": f"{people}; {materials}", "workers": settings.workers}


def build_methods(settings: GlvdEvaluation, head: HeadModel) -> dict[str, Annotator]:
    """Build the annotators by name."""
    sections = {
        "direct_fitting": settings.direct_fitting,
        "encoder": settings.encoder,
        "neuface": NeufaceSettings(settings.encoder, settings.neuface),
        "lvd": settings.lvd,
        "glvd": settings.glvd,
    }
    configs = {name: AnnotatorConfig(name, settings.device, sections.get(name)) for name in settings.methods}
    return {name: build_annotator(config, head) for name, config in configs.items()}


@dataclass
class SubjectResult:
    """Rows of errors of one person or real clip, and error curves of descents by method and number of views."""

    rows: list[Row] = field(default_factory=list)
    curves: dict[tuple[str, int], list[dict[str, np.ndarray]]] = field(default_factory=dict)


@contextmanager
def open_scorer(settings: GlvdEvaluation, head: str) -> Iterator[SubjectScorer]:
    """Open what scores people in a process."""
    yield SubjectScorer(settings, load_head(head))


class SubjectScorer:
    """Draws a person, asks every annotator, and compares with the truth."""

    def __init__(self, settings: GlvdEvaluation, head: HeadModel):
        self.settings, self.head = settings, head
        self.annotators = build_methods(settings, head)
        self.renderer = Renderer(head)
        crop_size = max(annotator.crop_size for annotator in self.annotators.values())
        self.media = replace(settings.media, crop_size=crop_size)

    def draw(self, index: int, frames: int, views: int) -> GroundTruthClip:
        """Draw the clip of a person."""
        settings = self.settings
        face = wide_faces(settings.picture_px, settings.picture_scale, settings.yaw_deg, settings)
        options = SequenceOptions(frames, views=views, face=face)
        return make_ground_truth_clip(self.renderer, options, settings.seed, index, self.media)

    def score(self, item: int | str) -> SubjectResult:
        """Score all annotators on a person by number, or on a real clip by path."""
        return SubjectResult(self.score_real(item)) if isinstance(item, str) else self.score_person(item)

    def score_person(self, index: int) -> SubjectResult:
        """Measure all errors; from one view the descents are asked from every direction, the others from the front."""
        most = max(self.settings.views)
        known, result = self.draw(index, 1, most), SubjectResult()
        truth = build_meshes(known.truth, self.head).posed[0]
        for name, annotator in self.annotators.items():
            descends = isinstance(annotator, VertexDescent)
            single = [[view] for view in range(most if descends else 1)]
            for views in [*single, *(list(range(count)) for count in self.settings.views[1:])]:
                clip = only_views(known.clip, views)
                if not clip.valid[0, 0]:
                    continue
                key = {"identity": index, "method": name, "views": len(views), "view": clip.segment.views[0].name}
                found = build_meshes(annotator.annotate(clip), self.head).posed[0, 0]
                errors = mesh_errors(found, truth[views[0]], self.head)
                errors |= chamfer(found, truth[views[0]], self.head) if views[0] == 0 else {}
                result.rows.append(key | errors)
                if descends:
                    descent, to_view = annotator.watch(clip, 0, LONGEST)
                    seen = replace(known.truth, **{k: getattr(known.truth, k)[:, views] for k in _PER_VIEW})
                    curve = descent_errors(descent, to_view, seen, self.head)
                    result.curves.setdefault((name, len(views)), []).append(curve)
        return result

    def time_methods(self, index: int) -> list[Row]:
        """Time per face of all methods on the clip of a person, and NeuFace's in the paper's form."""
        clip = self.draw(index, self.settings.timed_frames, 3).clip
        return time_methods(self.annotators, clip, self.settings, self.head)

    def score_real(self, path: str) -> list[Row]:
        """Measure errors against a real clip's landmarks, and the distance of each mesh to NeuFace's (rigid, face, mm)."""
        known = real_clip(path, self.media)
        sequences = {name: annotator.annotate(known.clip) for name, annotator in self.annotators.items()}
        face = self.head.regions["face"].numpy()
        surfaces = {name: build_meshes(sequence, self.head).posed[:, :, face] for name, sequence in sequences.items()}
        rows: list[Row] = []
        for name, sequence in sequences.items():
            numbers = score(known, sequence, self.head, None)
            row: Row = {"clip": Path(path).stem, "method": name, "NME %": numbers["nme"]}
            row["face-frames/s"] = numbers["face_frames_per_s"]
            if "neuface" in surfaces and name != "neuface":
                found, reference = surfaces[name][known.clip.valid], surfaces["neuface"][known.clip.valid]
                distance = np.linalg.norm(rigid(found, reference).apply(found) - reference, axis=-1)
                row["rigid mm to neuface"] = float(MM * distance.mean())
            rows.append(row)
        return rows


def mean_curves(people: Sequence[SubjectResult]) -> Curves:
    """Mean errors over all instants."""
    gathered: dict[tuple[str, int], list[dict[str, np.ndarray]]] = {}
    for result in people:
        for key, curves in result.curves.items():
            gathered.setdefault(key, []).extend(curves)
    return {key: {kind: np.mean([c[kind] for c in all_], 0) for kind in all_[0]} for key, all_ in sorted(gathered.items())}


def curve_table(curves: Curves) -> list[Row]:
    """A line for each step, a column for each curve."""
    named = {
        f"{method} {views} v {kind}": errors for (method, views), kinds in curves.items() for kind, errors in kinds.items()
    }
    return [{"t": step} | {name: float(errors[step]) for name, errors in named.items()} for step in range(LONGEST + 1)]


def draw_charts(
    scorer: SubjectScorer, rows: Sequence[Row], curves: dict[tuple[str, int], np.ndarray], folder: Path
) -> list[str]:
    """Draw all charts; the descent is that of the first two people."""
    clips = [scorer.draw(index, 1, 1).clip for index in range(min(2, scorer.settings.identities))]
    descents = [annotator for annotator in scorer.annotators.values() if isinstance(annotator, VertexDescent)]
    return [
        plots.error_against_step(curves, folder),
        plots.error_against_views(rows, folder),
        plots.descent_sheet(descents, clips, folder),
    ]
