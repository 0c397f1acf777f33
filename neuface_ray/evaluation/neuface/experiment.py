"""NeuFace against its rivals on synthetic truth: the paper's Table 2 and Table S1, claims N1 to N7 and our own, one command.

Source of tables and claims: Youwang et al., "NeuFace: Realistic 3D Neural Face Reconstruction from Multi-View Videos", CVPR
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
from typing import TYPE_CHECKING

import numpy as np

from neuface_ray.errors import UsageError
from neuface_ray.evaluation import synthetic_clips as labelled
from neuface_ray.evaluation.charts import pyplot
from neuface_ray.evaluation.neuface import criteria as rules
from neuface_ray.evaluation.neuface import plots, scores
from neuface_ray.evaluation.neuface import tables as comparison
from neuface_ray.evaluation.neuface import variants as methods
from neuface_ray.evaluation.report import Findings
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.media import MediaConfig
from neuface_ray.methods.direct_fitting.fit import DirectFitConfig
from neuface_ray.methods.encoder.annotator import EncoderConfig
from neuface_ray.methods.encoder.weights import load_encoder
from neuface_ray.methods.neuface.fit import NeufaceConfig
from neuface_ray.methods.registry import AnnotatorConfig, build_annotator
from neuface_ray.pipeline.parallel_map import call_all
from neuface_ray.synthesis.draw import Stage
from neuface_ray.synthesis.materials import Materials, check_materials
from neuface_ray.synthesis.sequences import RIG_DEG, SequenceOptions

if TYPE_CHECKING:
    from neuface_ray.evaluation.run import EvaluateConfig

TRACED = ("truth", methods.ENCODER, methods.DIRECT, methods.FULL)


@dataclass(frozen=True)
class NeufaceClaims(Materials):
    """NeuFace, direct fitting and the encoder on synthetic sequences with truth, and on real clips."""

    sequences: int = 10
    """Synthetic sequences, each of its own person, motion and light."""
    frames: int = 40
    """Frames of each."""
    views: int = 3
    """Synchronised views of each: front, left_30, right_30, left_60, right_60, top, down; the claims need two."""
    fps: float = 25.0
    """Frame rate; MSI values at different rates cannot be compared."""
    yaw_deg: float = 30.0
    """Largest resting yaw of a head; with the views' 30 degrees on top the detector still finds nearly all faces."""
    seed: int = 92_000
    """Seed of the sequences; not one that an encoder was trained on."""
    picture_px: int = 256
    """Side of the pictures that are drawn, in which landmarks are then detected."""
    picture_scale: float = 1.7
    """Side of the drawn pictures over 1.1 times the landmark box; above media.crop_scale."""
    landmarks: str = "detected"
    """detected: as the detector sees the pictures. true: projections of the truth."""
    clips: list[str] = field(default_factory=list)
    """Real recordings, reported without claims; of each the largest face of its first segment."""
    media: MediaConfig = field(default_factory=lambda: MediaConfig(max_frames=60, max_faces=1))
    """How landmarks are detected and crops are cut, and how real clips are read."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The encoder that is judged and that NeuFace moves."""
    neuface: NeufaceConfig = field(default_factory=NeufaceConfig)
    """NeuFace with all its terms."""
    direct: DirectFitConfig = field(
        default_factory=lambda: DirectFitConfig(NeufaceConfig().objective, shape_prior=1.0, expression_prior=1.0)
    )
    """Direct fitting with the same terms, equally weighted, and the priors that give it the lowest vertex error."""
    low_pass: list[float] = field(default_factory=lambda: [0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    """Strengths of the temporal filter on the encoder: standard deviations in frames."""
    whole_sequences: int = 2
    """The whole network moves on the first so many sequences."""
    whole_lr: float = 1e-4
    """Step size when the whole network moves."""
    curve_sequences: int = 3
    """Error against time is measured on the first so many sequences."""
    curve_passes: list[int] = field(default_factory=lambda: [10, 30, 80, 200])
    """Lengths of NeuFace for error against time."""
    curve_steps: list[int] = field(default_factory=lambda: [15, 40, 120, 300])
    """Lengths of direct fitting for error against time."""
    device: str = "cpu"
    """Torch device of all methods."""
    workers: int = 2
    """Parallel processes of one thread each; 1 runs everything in this process."""


@dataclass(frozen=True)
class Source:
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

    def open(self) -> tuple[labelled.Labelled, scores.Answer]:
        """The clip with its truth, and what the truth says."""
        return _opened(self.path, self.options, self.seed, self.index, self.head)


@dataclass(frozen=True)
class Measured:
    """Rows of tables and traces [F] of the first view by method."""

    rows: list[rules.Row]
    traces: dict[str, plots.Trace] = field(default_factory=dict)


def evaluate(config: EvaluateConfig) -> Findings:
    """Runs the comparison; see `NeufaceClaims` for what it takes.

    Raises:
        UsageError: settings that cannot work, missing weights or a missing matplotlib.
    """
    own, started = config.neuface_claims, time.monotonic()
    _check(own)
    pyplot()  # its absence shall not be noticed after hours
    encoder = load_encoder(own.encoder.kind, own.encoder.path, "neuface_claims.encoder.path")
    media = replace(own.media, crop_size=encoder.crop_size)
    folder = Path(config.output)
    sources, made_of = synthetic_sources(own, config.head, media, folder)
    amount = own.frames * own.views
    wanted = [source for source in sources if not source.path.exists()]
    call_all(make, wanted, [float(amount)] * len(wanted), own.workers, "sequences", "pictures")
    compared = methods.all_methods(own, encoder.stages[0])
    jobs = [(source, one) for source in sources for one in compared if _runs(one, source)]
    fits = call_all(run_synthetic, jobs, [amount * one.cost for _, one in jobs], own.workers, "fits", "face-frame passes")
    everywhere = [one for one in compared if one.everywhere]
    clips = [(path, config.head, media, everywhere) for path in own.clips]
    real = call_all(run_real, clips, [1.0] * len(clips), own.workers, "real clips", "clips")
    findings = _report(own, config.head, sources, fits, real, folder)
    weights = build_annotator(compared[0].annotator, load_head(config.head)).weights_hash
    findings.facts |= {"encoder": f"{own.encoder.kind}, sha256 {weights[:12]}", "workers": own.workers, **made_of}
    findings.facts["seconds in all"] = round(time.monotonic() - started, 1)
    return findings


def _check(own: NeufaceClaims) -> None:
    if own.landmarks not in ("detected", "true"):
        raise UsageError(f"neuface_claims.landmarks={own.landmarks!r}: choose detected or true")
    if not 2 <= own.views <= len(RIG_DEG):
        raise UsageError(f"neuface_claims.views={own.views}: the claims compare views; give 2 to {len(RIG_DEG)}")
    if own.frames < 5 or own.sequences < 1:
        raise UsageError("neuface_claims.frames is at least 5 and neuface_claims.sequences at least 1")
    if own.picture_scale <= own.media.crop_scale:
        raise UsageError("neuface_claims.picture_scale must be above neuface_claims.media.crop_scale")
    if own.fps <= 0:
        raise UsageError(f"neuface_claims.fps={own.fps} must be positive")
    check_materials("neuface_claims", own)


def synthetic_sources(
    own: NeufaceClaims, head: str, media: MediaConfig, folder: Path
) -> tuple[list[Source], dict[str, object]]:
    """The sequences that the settings ask for, drawn or not, and what they are made of, for the report."""
    looks = own.materials()
    face = labelled.wide_faces(own.picture_px, own.picture_scale, own.yaw_deg, own)
    options = SequenceOptions(own.frames, own.fps, own.views, face=face)
    name, about = labelled.store_name(options, own.seed, load_head(head), media, own.landmarks)
    store = folder / name
    store.mkdir(parents=True, exist_ok=True)
    (store / "about.json").write_text(json.dumps(about, indent=1))
    paths = [store / f"{index:03d}.npz" for index in range(own.sequences)]
    sources = [Source(path, options, own.seed, i, head, media, own.landmarks) for i, path in enumerate(paths)]
    size = f"{own.sequences} of {own.frames} frames at {own.fps:g} fps in {own.views} views"
    made_of = {"head": about["head"], "sequences": f"{size}, seed {own.seed}, {store}", "landmarks": own.landmarks, **looks}
    return sources, made_of


def _runs(method: methods.Method, source: Source) -> bool:
    return method.sequences is None or source.index < method.sequences


@lru_cache(maxsize=1)
def _head(spec: str) -> HeadModel:
    return load_head(spec)


@lru_cache(maxsize=1)
def _stage(spec: str) -> Stage:
    return Stage(_head(spec))


def make(source: Source) -> None:
    """Draws a sequence into its file."""
    made = labelled.make_labelled(
        _stage(source.head), source.options, source.seed, source.index, source.media, source.landmarks
    )
    labelled.save(made, source.path)


@lru_cache(maxsize=12)
def _opened(path: Path, options: SequenceOptions, seed: int, index: int, head: str) -> tuple[labelled.Labelled, scores.Answer]:
    known = labelled.load(path, options, seed, index)
    return known, scores.answer(known, known.truth, _head(head))


def run_synthetic(job: tuple[Source, methods.Method]) -> Measured:
    """One method on one synthetic sequence."""
    source, method = job
    known, truth = source.open()
    head = _head(source.head)
    withheld = methods.left_out(head, known.clip.landmark_scheme)
    result = Measured([])
    answers = list(method.annotate(known.clip, head))
    if method.name == methods.ENCODER:
        answers.append(("truth", known.truth))
        result.rows.append({"sequence": source.name, "method": "landmarks given", **scores.score_given(known, head)})
    for name, sequence in answers:
        row = scores.score(known, sequence, head, truth, withheld)
        result.rows.append({"sequence": source.name, "method": name, "found": float(known.clip.valid.mean()), **row})
        if name in TRACED:
            said = truth if name == "truth" else scores.answer(known, sequence, head)
            result.traces[name] = {key: getattr(said, key)[:, 0] for key in ("lids", "lips", "yaw")}
    return result


def run_real(job: tuple[str, str, MediaConfig, Sequence[methods.Method]]) -> Measured:
    """Methods on a real clip: path, head, media options, methods."""
    path, spec, media, chosen = job
    known, head = labelled.real_clip(path, media), _head(spec)
    rows = []
    for method in chosen:
        for name, sequence in method.annotate(known.clip, head):
            rows.append({"sequence": Path(path).stem, "method": name, **scores.score(known, sequence, head, None)})
    return Measured(rows)


def _report(
    own: NeufaceClaims, spec: str, sources: Sequence[Source], fits: Sequence[Measured], real: Sequence[Measured], folder: Path
) -> Findings:
    rows = [row for one in fits for row in one.rows]
    findings = Findings("NeuFace against direct fitting and the bare encoder")
    findings.claims = rules.paper_claims(rows) + rules.own_claims(rows, own.low_pass)
    findings.tables = comparison.tables(rows, [row for one in real for row in one.rows], own)
    (folder / "rows.json").write_text(json.dumps({"synthetic": rows, "real": [one.rows for one in real]}, default=float))
    traces: dict[str, dict[str, plots.Trace]] = {}
    for one in fits:
        for name, trace in one.traces.items():
            traces.setdefault(str(one.rows[0]["sequence"]), {})[name] = trace
    moving = {name: np.std(trace["truth"]["lips"]) + np.std(trace["truth"]["lids"]) for name, trace in traces.items()}
    liveliest = max(moving, key=moving.get)
    annotator = build_annotator(AnnotatorConfig(name="encoder", device=own.device, encoder=own.encoder), _head(spec))
    shown = [source.open()[0].clip for source in sources[:4]]
    picture, share = plots.gradient_maps(annotator, [clip for clip in shown if clip.valid.all(1).any()], folder)
    findings.pictures = [
        plots.cvd_per_view(rows, list(RIG_DEG)[: own.views], folder),
        plots.motion_traces({name: traces[liveliest][name] for name in TRACED}, own.fps, f"sequence {liveliest}", folder),
        plots.error_against_time(rows, own.curve_passes, own.curve_steps, folder),
        plots.stability_against_error(rows, own.low_pass, folder),
        picture,
    ]
    found = np.mean([row["found"] for row in rows if row["method"] == "truth"])
    findings.facts["faces found"] = f"{100 * found:.1f} % of all frames and views"
    findings.facts["gradient of the landmark loss by the picture"] = (
        f"{100 * share:.0f} % of its magnitude lies away from the landmarks; 0 in all pixels for direct fitting"
    )
    print(f"report: {folder / 'report.md'}", file=sys.stderr)
    return findings
