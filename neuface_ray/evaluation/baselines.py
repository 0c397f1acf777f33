"""Annotators under evaluation by name, alone or with all that annotating pictures takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from neuface_ray.evaluation.settings import BaselineSettings
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.media import MediaConfig
from neuface_ray.media.detect import FaceDetector
from neuface_ray.methods.annotator import Annotator
from neuface_ray.methods.encoder.settings import EncoderSettings
from neuface_ray.methods.registry import AnnotatorConfig, build_annotator


def build_baselines(settings: BaselineSettings, head: HeadModel) -> dict[str, Annotator]:
    """Build the annotators under evaluation on ``head``, by name.

    Raises:
        UsageError: weights that are missing or do not match.
    """
    complete = {name: with_encoder(each, settings.weights) for name, each in settings.settings.items()}
    return {name: build_annotator(AnnotatorConfig(name, settings.device, each), head) for name, each in complete.items()}


def with_encoder(settings: Any, weights: str | None) -> Any:
    """Settings of an annotator that is an encoder, or has one, with the file of its weights; others as they are."""
    if isinstance(settings, EncoderSettings):
        return replace(settings, path=settings.path or weights)
    encoder = getattr(settings, "encoder", None)
    return replace(settings, encoder=with_encoder(encoder, weights)) if isinstance(encoder, EncoderSettings) else settings


@dataclass(frozen=True)
class Baselines:
    """Annotators by name, and what finds faces for them: the head, the media options and an open detector."""

    head: HeadModel
    annotators: dict[str, Annotator]
    media: MediaConfig
    detector: FaceDetector


@contextmanager
def open_baselines(settings: BaselineSettings, head: str, sized_by: str) -> Iterator[Baselines]:
    """Open annotators and a face detector; close the detector at the end.

    Args:
        head: ``open_head`` or the path of a FLAME file. sized_by: the annotator whose crop size all crops have.
    """
    model = load_head(head)
    annotators = build_baselines(settings, model)
    media = MediaConfig(max_faces=1, crop_size=annotators[sized_by].crop_size)
    with FaceDetector(media) as detector:
        yield Baselines(model, annotators, media, detector)
