"""The configuration of an annotation run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from neuface_ray.config import REQUIRED
from neuface_ray.errors import UsageError
from neuface_ray.former import former_settings
from neuface_ray.media import MediaConfig
from neuface_ray.methods.registry import AnnotatorConfig
from neuface_ray.metrics.quality_gate import GateConfig
from neuface_ray.pipeline.workers import AnnotationRayConfig
from neuface_ray.sections import as_mapping


@dataclass
class AnnotateConfig:
    """Settings of an annotation run."""

    config_kind: ClassVar[str] = "annotate"

    input: str = REQUIRED
    """What to annotate: a video, an image, a folder, a glob, or a manifest (.csv, .jsonl, .parquet)."""
    output: str = REQUIRED
    """Folder of the dataset (or an fsspec URL). Running again with the same output continues where it stopped. Who may read it
    follows the umask: everybody on the machine under the usual 022, nobody else after `umask 077`."""
    head: str = "open_head"
    """Head model: open_head, or the path of a FLAME file."""
    seed: int = 0
    """Seed of all random numbers."""
    vertices: bool = False
    """Also store the vertices of every frame (large; they can be computed from the parameters at any time)."""
    retry: str | None = None
    """quarantined: try the segments again that earlier runs gave up."""
    on_change: str = "refuse"
    """If the output holds rows made with other settings or models, or by a version that gave other results: refuse (and show
    the difference), or new_version (write to OUTPUT.v2, OUTPUT.v3 ...)."""
    max_attempts: int = 3
    """How often a segment is tried when its worker dies or an unexpected error occurs, before it goes to quarantine."""
    clip_timeout_s: float = 1800.0
    """Time limit of each stage of a segment, seconds; a segment that exceeds it goes to quarantine."""
    max_failed_fraction: float | None = None
    """Error budget: the run stops with exit code 1 when more than this share of the planned segments has gone to quarantine;
    null: half of them, but at least 20."""
    publish_every_s: float = 120.0
    """Seconds between publications of what has been committed so far."""
    report: bool = False
    """Also make an overlay video and a contact sheet of the first clips."""
    report_clips: int = 3
    """How many clips the report shows."""
    media: MediaConfig = field(default_factory=MediaConfig)
    annotator: AnnotatorConfig = field(default_factory=AnnotatorConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    ray: AnnotationRayConfig = field(default_factory=AnnotationRayConfig)

    def __post_init__(self) -> None:
        if self.retry not in (None, "quarantined"):
            raise UsageError(f"retry must be 'quarantined' or null, got {self.retry!r}")
        if self.on_change not in ("refuse", "new_version"):
            raise UsageError(f"on_change must be 'refuse' or 'new_version', got {self.on_change!r}")
        if self.max_attempts < 1:
            raise UsageError(f"max_attempts must be at least 1, got {self.max_attempts}")

    def row_settings(self) -> dict[str, Any]:
        """The part on which rows depend: not where they come from and go to, how the work is spread and reported, nor the
        settings of methods that are not chosen."""
        return _row_settings(as_mapping(self))

    def former_row_settings(self) -> dict[str, Any]:
        """For each key of ``row_settings`` the value that stands for the behaviour before it existed."""
        former = former_settings(self)
        former["annotator"]["name"] = self.annotator.name
        return _row_settings(former)

    def error_budget(self, planned: int) -> float:
        """How many of the ``planned`` segments may go to quarantine before the run stops."""
        if self.max_failed_fraction is None:
            return max(0.5 * planned, 20)
        return self.max_failed_fraction * planned


def _row_settings(settings: dict[str, Any]) -> dict[str, Any]:
    names = ("head", "seed", "vertices", "media", "annotator", "gate")
    kept = {name: settings[name] for name in names}
    for key in ("limits", "manifest_root", "allow_outside_root"):
        del kept["media"][key]
    del kept["annotator"]["device"]
    return kept
