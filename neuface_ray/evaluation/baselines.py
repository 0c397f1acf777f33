"""Annotators under evaluation by name, alone or with all that annotating pictures takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from neuface_ray.errors import UsageError
from neuface_ray.evaluation.settings import BaselineSettings
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.media import MediaConfig
from neuface_ray.media.detect import FaceDetector
from neuface_ray.methods.encoder.annotator import EncoderConfig, NeufaceAnnotatorConfig
from neuface_ray.methods.registry import ANNOTATORS, Annotator, AnnotatorConfig, build_annotator


def build_baselines(names: Sequence[str], settings: BaselineSettings, head: HeadModel) -> dict[str, Annotator]:
    """Build the annotators of these names on ``head``.

    Raises:
        UsageError: no such annotator, or weights that are missing or do not match.
    """
    unknown = [name for name in names if name not in ANNOTATORS]
    if unknown:
        raise UsageError(f"method {unknown[0]!r} does not exist; choose from {', '.join(ANNOTATORS)}")
    encoder = EncoderConfig(path=settings.weights)
    config = AnnotatorConfig(
        device=settings.device,
        flame_fitting=settings.flame_fitting,
        encoder=encoder,
        neuface=NeufaceAnnotatorConfig(encoder, settings.neuface),
    )
    return {name: build_annotator(replace(config, name=name), head) for name in names}


@dataclass(frozen=True)
class Baselines:
    """Annotators by name, and what finds faces for them: the head, the media options and an open detector."""

    head: HeadModel
    annotators: dict[str, Annotator]
    media: MediaConfig
    detector: FaceDetector


@contextmanager
def open_baselines(names: Sequence[str], settings: BaselineSettings, head: str, sized_by: str) -> Iterator[Baselines]:
    """Open annotators and a face detector; close the detector at the end.

    Args:
        head: ``open_head`` or the path of a FLAME file. sized_by: the annotator whose crop size all crops have.
    """
    model = load_head(head)
    annotators = build_baselines(names, settings, model)
    media = MediaConfig(max_faces=1, crop_size=annotators[sized_by].crop_size)
    with FaceDetector(media) as detector:
        yield Baselines(model, annotators, media, detector)
