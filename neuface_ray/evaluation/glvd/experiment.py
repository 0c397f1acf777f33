"""GLVD against LVD, the encoder, direct fitting and NeuFace on synthetic people, from one, three and six views, one command.

Source of the claims: Caselles Rico and Moreno-Noguer, "GLVD: Guided Learned Vertex Descent", NeurIPS 2025. All methods get what
a detector finds in the pictures; the views are calibrated, which methods that can use cameras do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuface_ray.errors import UsageError
from neuface_ray.evaluation.charts import pyplot
from neuface_ray.evaluation.glvd import criteria as glvd_rules
from neuface_ray.evaluation.glvd import plots as glvd_plots
from neuface_ray.evaluation.glvd.scores import chamfer, descent_errors, mesh_errors, only_views
from neuface_ray.evaluation.glvd.speed import speed_rows
from neuface_ray.evaluation.neuface.scores import score
from neuface_ray.evaluation.report import Findings
from neuface_ray.evaluation.synthetic_clips import Labelled, make_labelled, real_clip, wide_faces
from neuface_ray.evaluation.worker_state import close, kept
from neuface_ray.geometry.alignment import rigid
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.heads.sequence_meshes import build_meshes
from neuface_ray.media import MediaConfig
from neuface_ray.methods.direct_fitting.fit import DirectFitConfig
from neuface_ray.methods.encoder.annotator import EncoderConfig, NeufaceAnnotatorConfig
from neuface_ray.methods.lvd.annotator import DescentAnnotatorConfig, VertexDescent
from neuface_ray.methods.neuface.fit import NeufaceConfig
from neuface_ray.methods.registry import ANNOTATORS, Annotator, AnnotatorConfig, build_annotator
from neuface_ray.metrics.annotation import MM
from neuface_ray.pipeline.parallel_map import call_all
from neuface_ray.synthesis.draw import Stage
from neuface_ray.synthesis.materials import Materials, check_materials
from neuface_ray.synthesis.sequences import RIG_DEG, SequenceOptions

if TYPE_CHECKING:
    from neuface_ray.evaluation.run import EvaluateConfig

LONGEST = 15

Row = dict[str, object]


@dataclass(frozen=True)
class GlvdClaims(Materials):
    """GLVD and its rivals on synthetic people with truth, and on real clips."""

    methods: list[str] = field(default_factory=lambda: ["lvd", "glvd", "encoder", "flame_fitting", "neuface"])
    """What is compared; lvd and glvd are what the claims are about."""
    identities: int = 24
    """Synthetic people, each with a face, light and cameras of its own, seen at one instant."""
    views: list[int] = field(default_factory=lambda: [1, 3, 6])
    """Numbers of views: the first so many of front, left_30, right_30, left_60, right_60, top, down; the first is 1."""
    yaw_deg: float = 30.0
    """Largest resting yaw of a head; the views' angles come on top."""
    seed: int = 93_000
    """Seed of the people; not one that a network was trained on."""
    picture_px: int = 256
    """Side of the pictures that are drawn, in which landmarks are then detected."""
    picture_scale: float = 1.7
    """Side of the drawn pictures over 1.1 times the landmark box; above media.crop_scale."""
    clips: list[str] = field(default_factory=list)
    """Real recordings, reported without claims; of each the largest face of its first segment."""
    media: MediaConfig = field(default_factory=lambda: MediaConfig(max_frames=30, max_faces=1))
    """How landmarks are detected and crops are cut, and how real clips are read."""
    lvd: DescentAnnotatorConfig = field(default_factory=DescentAnnotatorConfig)
    """LVD, trained with the budget and on the data of GLVD."""
    glvd: DescentAnnotatorConfig = field(default_factory=DescentAnnotatorConfig)
    """GLVD."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The encoder, alone and in NeuFace."""
    flame_fitting: DirectFitConfig = field(default_factory=DirectFitConfig)
    """Direct parameter fitting."""
    neuface: NeufaceConfig = field(default_factory=NeufaceConfig)
    """NeuFace as it is run by default."""
    timed_frames: int = 20
    """Frames of the clip of one view on which time per face is measured."""
    device: str = "cpu"
    """Torch device of all methods."""
    workers: int = 2
    """Parallel processes of one thread each; 1 runs everything in this process."""


def evaluate(config: EvaluateConfig) -> Findings:
    """Runs the comparison; see `GlvdClaims` for what it takes.

    Raises:
        UsageError: settings that cannot work, or a missing matplotlib.
        ModelFileError: weights that are missing or do not match.
    """
    own, started = config.glvd_claims, time.monotonic()
    _check(own)
    pyplot()  # its absence shall not be noticed after hours
    head, folder = load_head(config.head), Path(config.output)
    methods = build_methods(own, head)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        jobs: list[tuple[EvaluateConfig, int | str]] = [(config, item) for item in (*own.clips, *range(own.identities))]
        done = call_all(measure, jobs, [1.0] * len(jobs), own.workers, "glvd_claims", "people")
        speed = measure((config, own.identities)).speed
    finally:
        close()
    real, people = done[: len(own.clips)], done[len(own.clips) :]
    rows = [row for one in people for row in one.rows]
    curves = mean_curves(people)
    findings = Findings("GLVD against LVD, the encoder, direct fitting and NeuFace")
    findings.claims = glvd_rules.claims(rows, {key: errors["vertices"] for key, errors in curves.items()}, speed)
    findings.tables = glvd_rules.tables(rows, speed, [row for one in real for row in one.rows])
    findings.tables["Error against step, mm"] = curve_table(curves)
    findings.pictures = pictures(rows, curves, methods, config, folder)
    hashes = {name: method.weights_hash for name, method in methods.items() if method.weights_hash}
    findings.facts = {
        **{f"weights of {name}": f"sha256 {value[:12]}" for name, value in hashes.items()},
        "head": head.id,
        "people": f"{own.identities} with seed {own.seed}, {max(own.views)} views each; "
        + ", ".join(f"{kind} {folder}" for kind, folder in own.materials().items()),
        "workers": own.workers,
        "seconds in all": round(time.monotonic() - started, 1),
    }
    (folder / "rows.json").write_text(json.dumps({"rows": rows, "speed": speed}, default=float))
    return findings


def _check(own: GlvdClaims) -> None:
    unknown = [name for name in own.methods if name not in ANNOTATORS]
    if unknown:
        raise UsageError(f"glvd_claims.methods: {unknown[0]!r} does not exist; choose from {', '.join(ANNOTATORS)}")
    if not {"lvd", "glvd"} <= set(own.methods):
        raise UsageError(f"glvd_claims.methods={own.methods} must name lvd and glvd, which the claims are about")
    if len(own.views) < 2 or own.views[0] != 1 or sorted(set(own.views)) != own.views or own.views[-1] > len(RIG_DEG):
        raise UsageError(f"glvd_claims.views={own.views}: give 1 and then larger numbers, up to {len(RIG_DEG)}")
    if own.identities < 1 or own.timed_frames < 1:
        raise UsageError("glvd_claims.identities and glvd_claims.timed_frames are at least 1")
    if own.picture_scale <= own.media.crop_scale:
        raise UsageError("glvd_claims.picture_scale must be above glvd_claims.media.crop_scale")
    check_materials("glvd_claims", own)


def build_methods(own: GlvdClaims, head: HeadModel) -> dict[str, Annotator]:
    """The annotators by name."""
    config = AnnotatorConfig(
        device=own.device,
        flame_fitting=own.flame_fitting,
        encoder=own.encoder,
        neuface=NeufaceAnnotatorConfig(own.encoder, own.neuface),
        lvd=own.lvd,
        glvd=own.glvd,
    )
    return {name: build_annotator(replace(config, name=name), head) for name in own.methods}


@dataclass
class Measured:
    """What one job found.

    Args:
        rows: of errors. curves: errors (T + 1,) of one instant by method, number of views and kind. speed: rows of times.
    """

    rows: list[Row] = field(default_factory=list)
    curves: dict[tuple[str, int], list[dict[str, np.ndarray]]] = field(default_factory=dict)
    speed: list[Row] = field(default_factory=list)


def measure(job: tuple[EvaluateConfig, int | str]) -> Measured:
    """A person by number, the clip for time (the number after the last person's), or a real clip by path; in any process."""
    config, item = job
    bench = kept(workplace, config)
    if isinstance(item, str):
        return Measured(bench.real(item))
    return bench.timed(item) if item == config.glvd_claims.identities else bench.person(item)


@contextmanager
def workplace(config: EvaluateConfig) -> Iterator[Bench]:
    """Methods and stage, made once in a process."""
    yield Bench(config.glvd_claims, load_head(config.head))


class Bench:
    """Draws a person, asks every method, and compares with the truth."""

    def __init__(self, own: GlvdClaims, head: HeadModel):
        self.own, self.head, self.stage = own, head, Stage(head)
        self.methods = build_methods(own, head)
        self.media = replace(own.media, crop_size=max(method.crop_size for method in self.methods.values()))

    def draw(self, index: int, frames: int, views: int) -> Labelled:
        """The labelled clip of a person."""
        own = self.own
        face = wide_faces(own.picture_px, own.picture_scale, own.yaw_deg, own)
        return make_labelled(self.stage, SequenceOptions(frames, views=views, face=face), self.own.seed, index, self.media)

    def person(self, index: int) -> Measured:
        """Errors of all methods; from one view the descents are asked from every direction, the others from the front."""
        known = self.draw(index, 1, max(self.own.views))
        result, truth = Measured(), build_meshes(known.truth, self.head).posed[0]
        for name, method in self.methods.items():
            descends = isinstance(method, VertexDescent)
            chosen = [[view] for view in range(max(self.own.views) if descends else 1)]
            for views in [*chosen, *(list(range(count)) for count in self.own.views[1:])]:
                clip = only_views(known.clip, views)
                if not clip.valid[0, 0]:
                    continue
                about = {"identity": index, "method": name, "views": len(views), "view": clip.segment.views[0].name}
                found = build_meshes(method.annotate(clip), self.head).posed[0, 0]
                errors = mesh_errors(found, truth[views[0]], self.head)
                errors |= chamfer(found, truth[views[0]], self.head) if views[0] == 0 else {}
                result.rows.append(about | errors)
                if descends:
                    descent, to_view = method.watch(clip, 0, LONGEST)
                    seen = replace(known.truth, **{k: getattr(known.truth, k)[:, views] for k in _PER_VIEW})
                    errors = descent_errors(descent, to_view, seen, self.head)
                    result.curves.setdefault((name, len(views)), []).append(errors)
        return result

    def timed(self, index: int) -> Measured:
        """Time per face of all methods, and NeuFace's in the paper's form."""
        clip = self.draw(index, self.own.timed_frames, 3).clip
        return Measured(speed=speed_rows(self.methods, clip, self.own, self.head))

    def real(self, path: str) -> list[Row]:
        """A real clip: error against the landmarks given, and the distance of each mesh to NeuFace's (rigid, face, mm)."""
        known = real_clip(path, self.media)
        answers = {name: method.annotate(known.clip) for name, method in self.methods.items()}
        face = self.head.regions["face"].numpy()
        surfaces = {name: build_meshes(answer, self.head).posed[:, :, face] for name, answer in answers.items()}
        rows: list[Row] = []
        for name, answer in answers.items():
            numbers = score(known, answer, self.head, None)
            row: Row = {"clip": Path(path).stem, "method": name, "NME %": numbers["nme"]}
            row["face-frames/s"] = numbers["face_frames_per_s"]
            if "neuface" in surfaces and name != "neuface":
                mine, theirs = surfaces[name][known.clip.valid], surfaces["neuface"][known.clip.valid]
                row["rigid mm to neuface"] = float(
                    MM * np.linalg.norm(rigid(mine, theirs).apply(mine) - theirs, axis=-1).mean()
                )
            rows.append(row)
        return rows


_PER_VIEW = ("shape", "expression", "pose", "camera", "translation", "valid")


def mean_curves(people: list[Measured]) -> dict[tuple[str, int], dict[str, np.ndarray]]:
    """Mean errors (T + 1,) over all instants, by method and number of views."""
    gathered: dict[tuple[str, int], list[dict[str, np.ndarray]]] = {}
    for one in people:
        for key, curves in one.curves.items():
            gathered.setdefault(key, []).extend(curves)
    return {key: {kind: np.mean([c[kind] for c in all_], 0) for kind in all_[0]} for key, all_ in sorted(gathered.items())}


def curve_table(curves: dict[tuple[str, int], dict[str, np.ndarray]]) -> list[Row]:
    """A line for each step, a column for each curve."""
    named = {
        f"{method} {views} v {kind}": errors for (method, views), kinds in curves.items() for kind, errors in kinds.items()
    }
    return [{"t": step} | {name: float(errors[step]) for name, errors in named.items()} for step in range(LONGEST + 1)]


def pictures(
    rows: list[Row],
    curves: dict[tuple[str, int], dict[str, np.ndarray]],
    methods: dict[str, Annotator],
    config: EvaluateConfig,
    folder: Path,
) -> list[str]:
    """Draws all pictures; the descent is that of the first two people."""
    bench = Bench(config.glvd_claims, load_head(config.head))
    clips = [bench.draw(index, 1, 1).clip for index in range(min(2, config.glvd_claims.identities))]
    descents = [method for method in methods.values() if isinstance(method, VertexDescent)]
    return [
        glvd_plots.error_against_step({key: errors["vertices"] for key, errors in curves.items()}, folder),
        glvd_plots.error_against_views(rows, folder),
        glvd_plots.descent_sheet(descents, clips, folder),
    ]
