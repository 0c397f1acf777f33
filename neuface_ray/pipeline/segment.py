"""From a planned segment to annotated clips and the gate's decision on each, as plain functions that need no cluster."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, replace

import torch

from neuface_ray.heads import HeadModel, load_head
from neuface_ray.heads.sequence_meshes import build_meshes
from neuface_ray.media import MediaConfig, prepare
from neuface_ray.media.bundle import bundle_hash
from neuface_ray.methods.annotator import Annotator
from neuface_ray.methods.registry import build_annotator
from neuface_ray.methods.upright import in_picture, upright
from neuface_ray.metrics.clip_quality import measure
from neuface_ray.metrics.quality_gate import apply_gate
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.types import FaceClip, GateDecision, MeshSequence, Quality, Segment
from neuface_ray.version import library_versions


@dataclass(frozen=True)
class AnnotatedClip:
    """A clip with its mesh sequence, what was measured on it, and the decision."""

    clip: FaceClip
    sequence: MeshSequence
    quality: Quality
    decision: GateDecision


@dataclass(frozen=True)
class AnnotationSession:
    """The models, loaded once and used for many clips: the annotator, and the head on the CPU for measuring."""

    config: AnnotateConfig
    annotator: Annotator
    head: HeadModel

    @classmethod
    def load(cls, config: AnnotateConfig) -> AnnotationSession:
        """Loads the models that ``config`` names. Raises UsageError or ModelFileError if they are not there."""
        annotator = build_annotator(config.annotator, load_head(config.head))
        return cls(config, annotator, load_head(config.head))

    @property
    def media(self) -> MediaConfig:
        """The media options with the crop size that the annotator wants."""
        return replace(self.config.media, crop_size=self.annotator.crop_size)

    def annotate(self, clip: FaceClip) -> AnnotatedClip:
        """Annotates one clip and decides on it. The random numbers depend on the seed and the clip alone, never on others."""
        torch.manual_seed(self.config.seed + zlib.crc32(clip.clip_id.encode()))
        started = time.perf_counter()
        sequence = in_picture(clip, self.annotator.annotate(upright(clip)), self.head)
        measured = time.perf_counter()
        quality = measure(clip, sequence, self.head)
        decision = apply_gate(quality, self.config.gate, sequence.reasons)
        if self.config.vertices and sequence.vertices is None:
            sequence = replace(sequence, vertices=build_meshes(sequence, self.head).posed)
        seconds = {"annotate": measured - started}
        seconds |= {f"annotate.{part}": value for part, value in sequence.seconds.items()}
        seconds["measure"] = time.perf_counter() - measured
        details = sequence.provenance | {"libraries": library_versions(), "landmark_bundle": bundle_hash()}
        return AnnotatedClip(clip, replace(sequence, seconds=seconds, provenance=details), quality, decision)


def annotate_segment(segment: Segment, config: AnnotateConfig, session: AnnotationSession | None = None) -> list[AnnotatedClip]:
    """Decodes a segment, finds its faces, annotates and decides on each; one result per face track, none if there is no face.

    Args:
        segment: one of ``neuface_ray.media.plan(input, config.media)``.
        config: as for a run; ``output``, ``ray`` and the reporting keys are not used.
        session: the loaded models, to use them again; None loads those of ``config``.

    Raises:
        DataError: the segment cannot be processed.
    """
    session = session or AnnotationSession.load(config)
    return [session.annotate(clip) for clip in prepare(segment, session.media)]
