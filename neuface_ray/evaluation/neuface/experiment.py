"""NeuFace against its baselines on synthetic truth: the paper's Table 2 and Table S1, criteria N1 to N7, O1 and O2.

Source of tables and criteria: Youwang et al., "NeuFace: Realistic 3D Neural Face Reconstruction from Multi-View Videos", CVPR
2023. Every method gets the landmarks that a detector finds in the pictures and, but for one row, no cameras.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from neuface_ray.errors import UsageError
from neuface_ray.evaluation import synthetic_clips
from neuface_ray.evaluation.charts import pyplot
from neuface_ray.evaluation.neuface import plots
from neuface_ray.evaluation.neuface.criteria import added_criteria, paper_criteria
from neuface_ray.evaluation.neuface.scores import SequenceGeometry, build_geometry, score, score_landmarks
from neuface_ray.evaluation.neuface.settings import NeufaceEvaluation
from neuface_ray.evaluation.neuface.tables import make_tables
from neuface_ray.evaluation.neuface.variants import DIRECT, ENCODER, FULL, Variant, all_variants, withheld_landmarks
from neuface_ray.evaluation.report import Report
from neuface_ray.evaluation.synthetic_clips import GroundTruthClip
from neuface_ray.evaluation.tables import Row
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.media import MediaConfig
from neuface_ray.methods.encoder.weights import load_encoder
from neuface_ray.methods.registry import AnnotatorConfig, build_annotator
from neuface_ray.pipeline.parallel_map import parallel_map
from neuface_ray.synthesis.materials import check_materials
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.synthesis.sequences import RIG_DEG, SequenceOptions

TRACED = ("truth", ENCODER, DIRECT, FULL)


@dataclass(frozen=True)
class StoredSequence:
    """A synthetic sequence, as processes exchange it: where it lies, or is to lie, and how it is made."""

    path: Path
    options: SequenceOptions
    seed: int
    index: int
    head: str
    media: MediaConfig
    landmarks: str

    @property
    def name(self) -> str:
        return f"{self.seed}-{self.index:03d}"

    def open(self) -> tuple[GroundTruthClip, SequenceGeometry]:
        """Read the clip with its truth, and build the truth's geometry."""
        return _opened(self.path, self.options, self.seed, self.index, self.head)


@dataclass(frozen=True)
class VariantResult:
    """Rows of tables, and traces [F] of the first view by method, of one variant on one clip."""

    rows: list[Row]
    traces: dict[str, plots.Trace] = field(default_factory=dict)


def evaluate(settings: NeufaceEvaluation, head: str, output: str | Path) -> Report:
    """Run the comparison; see `NeufaceEvaluation` for what it takes.

    Raises:
        UsageError: settings that cannot work, or missing weights or packages.
    """
    started = time.monotonic()
    check(settings)
    pyplot()  # a missing package is named before anything is computed
    encoder = load_encoder(settings.encoder.kind, settings.encoder.path, "neuface_claims.encoder.path")
    media = replace(settings.media, crop_size=encoder.crop_size)
    folder = Path(output)
    sequences, facts = synthetic_sequences(settings, head, media, folder)
    draw_missing(sequences, settings)
    variants = all_variants(settings, encoder.stages[0])
    results = run_variants(sequences, variants, settings)
    shown = [variant for variant in variants if variant.on_real_clips]
    clips = [(path, head, media, shown) for path in settings.clips]
    real = parallel_map(run_real, clips, settings.workers, "real clips", "clips")
    report = make_report(settings, head, sequences, results, real, folder)
    weights = build_annotator(variants[0].annotator, load_head(head)).weights_hash
    report.facts |= {"encoder": f"{settings.encoder.kind}, sha256 {weights[:12]}", "workers": settings.workers, **facts}
    report.facts["seconds in all"] = round(time.monotonic() - started, 1)
    return report


def check(settings: NeufaceEvaluation) -> None:
    """Raise UsageError for settings that cannot work."""
    if settings.landmarks not in ("detected", "true"):
        raise UsageError(f"neuface_claims.landmarks={settings.landmarks!r}: choose detected or true")
    if not 2 <= settings.views <= len(RIG_DEG):
        raise UsageError(f"neuface_claims.views={settings.views}: the criteria compare views; give 2 to {len(RIG_DEG)}")
    if settings.frames < 5 or settings.sequences < 1:
        raise UsageError("neuface_claims.frames is at least 5 and neuface_claims.sequences at least 1")
    if settings.picture_scale <= settings.media.crop_scale:
        raise UsageError("neuface_claims.picture_scale must be above neuface_claims.media.crop_scale")
    if settings.fps <= 0:
        raise UsageError(f"neuface_claims.fps={settings.fps} must be positive")
    check_materials("neuface_claims", settings)


def synthetic_sequences(
    settings: NeufaceEvaluation, head: str, media: MediaConfig, folder: Path
) -> tuple[list[StoredSequence], dict[str, object]]:
    """List the sequences that the settings ask for, drawn or not, and what they are made of, for the report."""
    face = synthetic_clips.wide_faces(settings.picture_px, settings.picture_scale, settings.yaw_deg, settings)
    options = SequenceOptions(settings.frames, settings.fps, settings.views, face=face)
    name, about = synthetic_clips.store_name(options, settings.seed, load_head(head), media, settings.landmarks)
    store = folder / name
    store.mkdir(parents=True, exist_ok=True)
    (store / "about.json").write_text(json.dumps(about, indent=1))
    paths = [store / f"{index:03d}.npz" for index in range(settings.sequences)]
    sequences = [
        StoredSequence(path, options, settings.seed, index, head, media, settings.landmarks) for index, path in enumerate(paths)
    ]
    size = f"{settings.sequences} of {settings.frames} frames at {settings.fps:g} fps in {settings.views} views"
    facts = {"head": about["head"], "sequences": f"{size}, seed {settings.seed}, {store}", "landmarks": settings.landmarks}
    return sequences, facts | settings.materials()


def draw_missing(sequences: Sequence[StoredSequence], settings: NeufaceEvaluation) -> None:
    """Draw the sequences that are not there yet, in parallel."""
    missing = [sequence for sequence in sequences if not sequence.path.exists()]
    amounts = [float(settings.frames * settings.views)] * len(missing)
    parallel_map(draw, missing, settings.workers, "sequences", "pictures", amounts)


def run_variants(
    sequences: Sequence[StoredSequence], variants: Sequence[Variant], settings: NeufaceEvaluation
) -> list[VariantResult]:
    """Run each variant on each sequence that it is meant for, in parallel."""
    pairs = [
        (sequence, variant)
        for sequence in sequences
        for variant in variants
        if variant.sequences is None or sequence.index < variant.sequences
    ]
    amounts = [settings.frames * settings.views * variant.cost for _, variant in pairs]
    return parallel_map(run_synthetic, pairs, settings.workers, "fits", "face-frame passes", amounts)


@lru_cache(maxsize=1)
def _head(name: str) -> HeadModel:
    return load_head(name)


@lru_cache(maxsize=1)
def _load_renderer(name: str) -> Renderer:
    return Renderer(_head(name))


@lru_cache(maxsize=12)
def _opened(path: Path, options: SequenceOptions, seed: int, index: int, head: str) -> tuple[GroundTruthClip, SequenceGeometry]:
    known = synthetic_clips.load(path, options, seed, index)
    return known, build_geometry(known, known.truth, _head(head))


def draw(sequence: StoredSequence) -> None:
    """Draw a sequence into its file."""
    known = synthetic_clips.make_ground_truth_clip(
        _load_renderer(sequence.head), sequence.options, sequence.seed, sequence.index, sequence.media, sequence.landmarks
    )
    synthetic_clips.save(known, sequence.path)


def run_synthetic(pair: tuple[StoredSequence, Variant]) -> VariantResult:
    """Run one variant on one synthetic sequence and measure it."""
    stored, variant = pair
    known, truth = stored.open()
    head = _head(stored.head)
    withheld = withheld_landmarks(head, known.clip.landmark_scheme)
    result = VariantResult([])
    sequences = list(variant.annotate(known.clip, head))
    if variant.name == ENCODER:
        sequences.append(("truth", known.truth))
        result.rows.append({"sequence": stored.name, "method": "landmarks given", **score_landmarks(known, head)})
    for name, sequence in sequences:
        row = score(known, sequence, head, truth, withheld)
        result.rows.append({"sequence": stored.name, "method": name, "found": float(known.clip.valid.mean()), **row})
        if name in TRACED:
            found = truth if name == "truth" else build_geometry(known, sequence, head)
            result.traces[name] = {key: getattr(found, key)[:, 0] for key in ("lids", "lips", "yaw")}
    return result


def run_real(item: tuple[str, str, MediaConfig, Sequence[Variant]]) -> list[Row]:
    """Run variants on a real clip: its path, the head, media options, the variants."""
    path, head_name, media, variants = item
    known, head = synthetic_clips.real_clip(path, media), _head(head_name)
    rows: list[Row] = []
    for variant in variants:
        for name, sequence in variant.annotate(known.clip, head):
            rows.append({"sequence": Path(path).stem, "method": name, **score(known, sequence, head, None)})
    return rows


def make_report(
    settings: NeufaceEvaluation,
    head: str,
    sequences: Sequence[StoredSequence],
    results: Sequence[VariantResult],
    real: Sequence[Sequence[Row]],
    folder: Path,
) -> Report:
    """Make criteria, tables and charts; writes the charts and ``rows.json`` into ``folder``."""
    rows = [row for result in results for row in result.rows]
    report = Report("NeuFace against direct fitting and the bare encoder")
    report.criteria = paper_criteria(rows) + added_criteria(rows, settings.low_pass)
    report.tables = make_tables(rows, [row for part in real for row in part], settings)
    (folder / "rows.json").write_text(json.dumps({"synthetic": rows, "real": real}, default=float))
    report.pictures, share = draw_charts(settings, head, sequences, rows, results, folder)
    found = np.mean([row["found"] for row in rows if row["method"] == "truth"])
    report.facts["faces found"] = f"{100 * found:.1f} % of all frames and views"
    report.facts["gradient of the landmark loss by the picture"] = (
        f"{100 * share:.0f} % of its magnitude lies away from the landmarks; 0 in all pixels for direct fitting"
    )
    print(f"report: {folder / 'report.md'}", file=sys.stderr)
    return report


def draw_charts(
    settings: NeufaceEvaluation,
    head: str,
    sequences: Sequence[StoredSequence],
    rows: Sequence[Row],
    results: Sequence[VariantResult],
    folder: Path,
) -> tuple[list[str], float]:
    """Draw all charts; return their names, and the share of the landmark loss's gradient away from the landmarks."""
    traces: dict[str, dict[str, plots.Trace]] = {}
    for result in results:
        for name, trace in result.traces.items():
            traces.setdefault(str(result.rows[0]["sequence"]), {})[name] = trace
    moving = {name: np.std(trace["truth"]["lips"]) + np.std(trace["truth"]["lids"]) for name, trace in traces.items()}
    liveliest = max(moving, key=moving.get)
    annotator = build_annotator(AnnotatorConfig(name="encoder", device=settings.device, settings=settings.encoder), _head(head))
    shown = [sequence.open()[0].clip for sequence in sequences[:4]]
    gradients, share = plots.gradient_maps(annotator, [clip for clip in shown if clip.valid.all(1).any()], folder)
    names = [
        plots.cvd_per_view(rows, list(RIG_DEG)[: settings.views], folder),
        plots.motion_traces({name: traces[liveliest][name] for name in TRACED}, settings.fps, f"sequence {liveliest}", folder),
        plots.error_against_time(rows, settings.curve_iterations, settings.curve_steps, folder),
        plots.stability_against_error(rows, settings.low_pass, folder),
        gradients,
    ]
    return names, share
