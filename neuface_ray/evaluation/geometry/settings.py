"""Settings of the evaluation of geometry."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuface_ray.errors import UsageError
from neuface_ray.evaluation.settings import BaselineSettings
from neuface_ray.synthesis.materials import check_materials


@dataclass(frozen=True)
class GeometryEvaluation(BaselineSettings):
    """Scans and synthetic heads seen from known cameras, scored scan to mesh."""

    methods: list[str] = field(default_factory=lambda: ["encoder", "direct_fitting", "neuface"])
    """Annotators under evaluation: encoder and neuface, which the acceptance criteria are about, and any others."""
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
    methods_on_turning: list[str] = field(default_factory=lambda: ["encoder", "neuface"])
    """Those of the annotators that are asked for the turning head."""
    points: int = 1000
    """Points on each head's surface that are scored."""
    workers: int = 2
    """Processes, one thread each."""

    def check(self) -> None:
        """Raise UsageError for settings that leave an acceptance criterion without measurements."""
        if not {"encoder", "neuface"} <= set(self.methods):
            raise UsageError(f"geometry.methods={self.methods} must name encoder and neuface, which the criteria are about")
        if self.scans is None and self.identities <= 0:
            raise UsageError("nothing to evaluate: give geometry.scans=FOLDER or geometry.identities=NUMBER")
        if not self.together or not set(self.together) <= set(self.yaws):
            raise UsageError(f"geometry.together={self.together} must be some of geometry.yaws={self.yaws}")
        if self.frames > 0 and min(map(abs, self.yaws)) > self.turn_deg:
            raise UsageError(f"geometry.turn_deg={self.turn_deg} must reach one of geometry.yaws={self.yaws}")
        check_materials("geometry", self)
