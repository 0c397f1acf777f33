"""Geometry: heads of known surface are photographed from several sides and held to what the methods make of the pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from neuface_ray.errors import DataError, UsageError
from neuface_ray.evaluation import scan_benchmark as benchmark
from neuface_ray.evaluation.baselines import ContenderSettings, build_contenders
from neuface_ray.evaluation.rendered_clips import as_video, as_views, capture
from neuface_ray.evaluation.rendered_heads import ScanSitter, Sitter, SyntheticSitter, second_setting
from neuface_ray.evaluation.report import Claim, Findings
from neuface_ray.evaluation.scan_benchmark import GAIN_KEY, MEAN_HEAD, Row
from neuface_ray.evaluation.scans import ScanFiles, list_scans, normalise, read_scan, surface_sample
from neuface_ray.evaluation.worker_state import close, kept
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.media import MediaConfig
from neuface_ray.media.detect import FaceDetector
from neuface_ray.methods.registry import Annotator
from neuface_ray.metrics.statistics import Comparison, compare
from neuface_ray.pipeline.parallel_map import call_all
from neuface_ray.synthesis.draw import Stage
from neuface_ray.synthesis.materials import Materials, check_materials
from neuface_ray.types import FaceClip

if TYPE_CHECKING:
    from neuface_ray.evaluation.run import EvaluateConfig

SCANS, SYNTHETIC = "scans", "synthetic"
ONE, VIEWS, TURNING = "one view", "views together", "turning head"
SEEN_BY = {"encoder": (ONE, VIEWS, TURNING), "flame_fitting": (ONE, VIEWS), "neuface": (ONE, VIEWS, TURNING)}
GAIN_MM, PUBLIC_MARK_MM = 0.4, 0.57
FPS = 25.0
_NOD_DEG = 8.0
_THUMBNAIL = 128


@dataclass(frozen=True)
class GeometryEvaluation(Materials):
    """Scans and synthetic heads seen from known cameras, scored scan to mesh."""

    methods: list[str] = field(default_factory=lambda: ["encoder", "flame_fitting", "neuface"])
    """What is evaluated: encoder and neuface, which the claims are about, and flame_fitting."""
    settings: ContenderSettings = field(default_factory=ContenderSettings)
    """Settings of the methods."""
    scans: str | None = None
    """Folder of scanned or foreign heads (.obj, .ply, ...); null: synthetic heads alone."""
    manifest: str | None = None
    """JSON list of the scans with several meshes or textures; null: scans.json in the folder, or every mesh by itself."""
    identities: int = 10
    """Synthetic heads, which are people that no training set has."""
    seed: int = 90_002
    """Of the synthetic heads."""
    shape_sd: float = 1.3
    """Spread of their identity coefficients; training has 1."""
    expressions: float = 0.7
    """Strength of their expressions; training has 1. Scans keep the face they have."""
    size: int = 320
    """Side of the pictures in pixels; the face fills about half of it."""
    yaws: list[float] = field(default_factory=lambda: [-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0])
    """Degrees by which the head is turned in the single views."""
    together: list[float] = field(default_factory=lambda: [-40.0, 0.0, 40.0])
    """Those of them that are seen together, with calibrated cameras."""
    frames: int = 60
    """Frames of the sequence in which the head turns to one side, to the other and back; 0 for none."""
    turn_deg: float = 40.0
    """How far it turns."""
    points: int = 1000
    """Points on each head's surface that are scored."""
    workers: int = 2
    """Processes, one thread each."""

    def check(self) -> None:
        """Raises UsageError for settings that leave a claim without figures."""
        if not {"encoder", "neuface"} <= set(self.methods):
            raise UsageError(f"geometry.methods={self.methods} must name encoder and neuface, which the claims are about")
        if self.scans is None and self.identities <= 0:
            raise UsageError("nothing to evaluate: give geometry.scans=FOLDER or geometry.identities=NUMBER")
        if not self.together or not set(self.together) <= set(self.yaws):
            raise UsageError(f"geometry.together={self.together} must be some of geometry.yaws={self.yaws}")
        if self.frames > 0 and min(map(abs, self.yaws)) > self.turn_deg:
            raise UsageError(f"geometry.turn_deg={self.turn_deg} must reach one of geometry.yaws={self.yaws}")
        check_materials("geometry", self)


@dataclass(frozen=True)
class Outcome:
    """Rows of one head and a small picture of it; ``left_out`` says why there are none."""

    rows: list[Row]
    thumbnail: np.ndarray | None = None
    left_out: str | None = None


def evaluate(config: EvaluateConfig) -> Findings:
    """Runs the evaluation ``geometry``; writes ``heads.png`` into the output folder.

    Raises:
        UsageError: a claim would be without figures, or a path or weight file does not exist.
    """
    given = config.geometry
    given.check()
    methods = build_contenders(given.methods, given.settings, load_head(config.head))
    scans = [] if given.scans is None else list_scans(given.scans, given.manifest)
    items = [*scans, *range(given.identities)]
    try:
        done = call_all(outcome_of, [(config, item) for item in items], [1.0] * len(items), given.workers, "geometry", "heads")
    finally:
        close()
    rows = [row for outcome in done for row in outcome.rows]
    if not rows:
        raise UsageError(f"geometry.scans={given.scans}: no scan shows a face: {'; '.join(o.left_out or '' for o in done)}")
    facts = {
        "weights": f"{given.settings.weights or 'packaged'} (sha256 {methods['encoder'].weights_hash})",
        "head": config.head,
        "scans": f"{given.scans}: {sum(1 for o in done[: len(scans)] if o.rows)} of {len(scans)} show a face",
        "synthetic": f"{given.identities} heads, seed {given.seed}, identities x {given.shape_sd}, expressions x "
        f"{given.expressions}; textures {given.textures}, hdr {given.hdr}, backgrounds {given.backgrounds}",
        "pictures": f"{given.size} px; yaws {given.yaws}, together {given.together}; {given.frames} frames to {given.turn_deg}",
    }
    left_out = [outcome.left_out for outcome in done if outcome.left_out]
    result = findings(rows, given, facts | ({"left out": "; ".join(left_out)} if left_out else {}))
    result.pictures.append(_contact_sheet([o.thumbnail for o in done if o.thumbnail is not None], Path(config.output)))
    return result


def outcome_of(job: tuple[EvaluateConfig, ScanFiles | int]) -> Outcome:
    """The rows of a scan or of a synthetic head, for use in any process."""
    config, item = job
    return kept(workplace, config)(item)


@contextmanager
def workplace(config: EvaluateConfig) -> Iterator[Bench]:
    """Methods, detector and stage, opened once in a process."""
    given = config.geometry
    head = load_head(config.head)
    methods = build_contenders(given.methods, given.settings, head)
    media = MediaConfig(max_faces=1, crop_size=methods["encoder"].crop_size)
    with FaceDetector(media) as detector:
        yield Bench(given, head, methods, media, detector)


class Bench:
    """Does a job: a scan's files or the number of a synthetic head, to the rows of all methods."""

    def __init__(
        self,
        given: GeometryEvaluation,
        head: HeadModel,
        methods: dict[str, Annotator],
        media: MediaConfig,
        detector: FaceDetector,
    ):
        self.given, self.head, self.methods, self.media, self.detector = given, head, methods, media, detector
        self.stage = Stage(head) if given.identities > 0 else None
        self.mean_head = benchmark.Prediction.of(head, head.template.numpy())
        self.options = second_setting(given.size, given.shape_sd, given.expressions, given)

    def __call__(self, item: ScanFiles | int) -> Outcome:
        try:
            sitter = self.seated(item)
        except DataError as error:
            if isinstance(item, int):
                raise
            return Outcome([], left_out=str(error))
        rows = [{"set": SYNTHETIC if isinstance(item, int) else SCANS} | row for row in self.rows(sitter)]
        small = cv2.resize(sitter.take(20.0).image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
        return Outcome(rows, small)

    def seated(self, item: ScanFiles | int) -> Sitter:
        """The head of a job. Raises DataError for a scan that cannot be read or shows no face."""
        if isinstance(item, int):
            return SyntheticSitter(self.stage, self.options, self.given.seed, item, self.given.frames / FPS)
        reference = 1000 * self.head.landmarks(self.head.template, "mediapipe478").numpy()
        return ScanSitter(normalise(read_scan(item), self.detect, reference), self.given.size)

    def detect(self, image: np.ndarray) -> np.ndarray | None:
        faces = self.detector.find(image)
        return faces[0].mesh if faces else None

    def rows(self, sitter: Sitter) -> Iterator[Row]:
        """A row for the mean head, and one for each method and each way of seeing."""
        points = surface_sample(sitter.scan, self.given.points)
        about: Row = {"head": sitter.scan.name, "method": MEAN_HEAD, "seen": "", "turn": ""}
        reference = benchmark.score(sitter.scan, self.mean_head, points)
        yield about | reference
        for seen, yaw, clip in self.sights(sitter):
            for name, method in self.methods.items():
                if seen in SEEN_BY[name]:
                    prediction = self.prediction(method, clip)
                    failed = dict.fromkeys(reference, float("nan"))
                    scores = failed if prediction is None else benchmark.score(sitter.scan, prediction, points)
                    yield about | {"method": name, "seen": seen, "turn": "" if yaw is None else abs(yaw)} | scores

    def sights(self, sitter: Sitter) -> Iterator[tuple[str, float | None, FaceClip]]:
        """Every way of seeing a head: its name, the yaw of single views, and the clip."""
        renders = {yaw: sitter.take(yaw) for yaw in self.given.yaws}
        stills = {yaw: capture(render.image, self.media, self.detector) for yaw, render in renders.items()}
        for yaw, still in stills.items():
            yield ONE, yaw, still
        together = self.given.together
        yield VIEWS, None, as_views([stills[yaw] for yaw in together], [renders[yaw].camera for yaw in together])
        if self.given.frames > 0:
            path = turning(self.given.frames, self.given.turn_deg)
            shots = [sitter.take(yaw, pitch, frame / FPS).image for frame, (yaw, pitch) in enumerate(path)]
            yield TURNING, None, as_video([capture(shot, self.media, self.detector) for shot in shots], FPS)

    def prediction(self, method: Annotator, clip: FaceClip) -> benchmark.Prediction | None:
        """The identity that a method finds, without expression; None where no picture shows a face."""
        if not clip.valid.any():
            return None
        sequence = method.annotate(clip)
        shape = torch.from_numpy(sequence.shape[sequence.valid].mean(0)).to(method.device)
        with torch.no_grad():
            return benchmark.Prediction.of(self.head, self.head(shape).cpu().numpy())


def turning(frames: int, turn_deg: float) -> list[tuple[float, float]]:
    """Yaw and pitch in degrees of each frame: once to one side, once to the other, nodding a little."""
    phase = 2 * np.pi * np.arange(frames) / frames
    return list(zip((turn_deg * np.sin(phase)).tolist(), (_NOD_DEG * np.sin(2 * phase)).tolist(), strict=True))


def findings(rows: Sequence[Row], given: GeometryEvaluation, facts: dict[str, object]) -> Findings:
    """Tables and claims from the rows of all heads."""
    result = Findings("Geometry", facts=facts)
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        result.tables[f"Scan to mesh, mm: {name}"] = benchmark.table(own, ("method", "seen"))
        single = [row for row in own if row["seen"] in ("", ONE)]
        result.tables[f"One view by turn of the head, mm: {name}"] = benchmark.table(single, ("method", "turn"))
    result.tables["Heads one by one: inner face, similarity, mm"] = head_lines(rows)
    result.claims = [
        one_view_claim(rows),
        more_views_claim(rows, given.together, given.turn_deg, given.frames > 0),
        mark_claim(rows),
    ]
    return result


def head_lines(rows: Sequence[Row]) -> list[Row]:
    """A line for each head, a column for each method and way of seeing: mean errors over its pictures."""
    lines = []
    for name, head in dict.fromkeys((row["set"], row["head"]) for row in rows):
        own = [row for row in rows if (row["set"], row["head"]) == (name, head)]
        line: Row = {"set": name, "head": head}
        for method, seen in dict.fromkeys((row["method"], row["seen"]) for row in own):
            line[f"{method} {seen}".strip()] = mean_error(own, method, seen)
        lines.append(line)
    return lines


def one_view_claim(rows: Sequence[Row]) -> Claim:
    """D1: the gain over the mean head from one view, for encoder and NeuFace, on each set of heads."""
    gains = {(name, method): one_view_gain(rows, name, method) for name in sets(rows) for method in ("encoder", "neuface")}
    passed = all(gain.difference >= GAIN_MM and gain.low > 0 for gain in gains.values())
    figures = ", ".join(f"{method} {said(gain)} on {name}" for (name, method), gain in gains.items())
    return Claim(
        "D1", f"encoder and NeuFace from one view beat the mean head by {GAIN_MM} mm, inner face", bool(passed), figures
    )


def more_views_claim(rows: Sequence[Row], together: Sequence[float], turn_deg: float, turned: bool) -> Claim:
    """D2: NeuFace's error from one view less that from a turning head and from views together, single views as far turned."""
    ways = {VIEWS: {abs(yaw) for yaw in together}}
    if turned:
        ways[TURNING] = {row["turn"] for row in rows if row["seen"] == ONE and row["turn"] <= turn_deg}
    gains = {way: more_views_gain(rows, way, turns) for way, turns in ways.items()}
    passed = turned and all(gain.low > 0 for gain in gains.values())
    figures = ", ".join(f"{way} {said(gain)}" for way, gain in gains.items())
    return Claim("D2", "NeuFace over a turning head and from several views beats one view", bool(passed), figures)


def mark_claim(rows: Sequence[Row]) -> Claim:
    """D3: NeuFace's gain from one view against 3DDFA_V2's, on scans if there are any."""
    name = sets(rows)[0]
    neuface, encoder = (one_view_gain(rows, name, method) for method in ("neuface", "encoder"))
    figures = f"neuface {said(neuface)}, encoder {said(encoder)} on {name}"
    statement = f"NeuFace from one view passes 3DDFA_V2's gain of {PUBLIC_MARK_MM} mm over the mean head"
    return Claim("D3", statement, bool(neuface.difference > PUBLIC_MARK_MM), figures)


def one_view_gain(rows: Sequence[Row], name: str, method: str) -> Comparison:
    """The mean head's error less a method's from one view on a set of heads; bootstrap over heads."""
    own = [row for row in rows if row["set"] == name]
    return benchmark.gain(own, [row for row in own if row["method"] == method and row["seen"] == ONE])


def more_views_gain(rows: Sequence[Row], way: str, turns: set[float]) -> Comparison:
    """NeuFace's mean error from single views of these turns less that of a richer way of seeing; paired by head."""
    heads = list(dict.fromkeys((row["set"], row["head"]) for row in rows))
    single = [row for row in rows if row["seen"] == ONE and row["turn"] in turns]
    pairs = [
        [mean_error([row for row in part if (row["set"], row["head"]) == head], "neuface", seen) for head in heads]
        for part, seen in ((single, ONE), (rows, way))
    ]
    return compare(np.array(pairs[0]), np.array(pairs[1]))


def mean_error(rows: Sequence[Row], method: str, seen: str) -> float:
    """Mean error of a method in mm (inner face, similarity) over the pictures in which it succeeded; NaN if there are none."""
    errors = [row[GAIN_KEY] for row in rows if row["method"] == method and row["seen"] == seen]
    errors = [error for error in errors if not np.isnan(error)]
    return float(np.mean(errors)) if errors else float("nan")


def sets(rows: Sequence[Row]) -> list[str]:
    """The sets that have heads, scans first."""
    return [name for name in (SCANS, SYNTHETIC) if any(row["set"] == name for row in rows)]


def said(gain: Comparison) -> str:
    """A gain in mm with its 95 % interval, as text."""
    return f"{gain.difference:.2f} mm ({gain.low:.2f} to {gain.high:.2f})"


def _contact_sheet(pictures: Sequence[np.ndarray], folder: Path) -> str:
    """Writes pictures [S, S, 3] side by side as ``heads.png``; returns the name."""
    columns = min(8, len(pictures))
    blank = np.zeros_like(pictures[0])
    filled = [*pictures, *[blank] * (-len(pictures) % columns)]
    lines = [np.concatenate(filled[start : start + columns], 1) for start in range(0, len(filled), columns)]
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "heads.png"), np.ascontiguousarray(np.concatenate(lines)[..., ::-1]))
    return "heads.png"
