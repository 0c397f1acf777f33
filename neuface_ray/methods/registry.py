"""Ways of turning a face clip into a mesh sequence, all with one contract and chosen by ``annotator.name``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from neuface_ray.errors import UsageError
from neuface_ray.heads import HeadModel
from neuface_ray.methods.annotator import Annotator
from neuface_ray.methods.direct_fitting.annotator import FlameFitting
from neuface_ray.methods.direct_fitting.fit import DirectFitConfig
from neuface_ray.methods.encoder.annotator import EncoderAnnotator, EncoderConfig, Neuface, NeufaceAnnotatorConfig
from neuface_ray.methods.lvd.annotator import DescentAnnotatorConfig, VertexDescent

ANNOTATORS = {
    "flame_fitting": FlameFitting,
    "encoder": EncoderAnnotator,
    "neuface": Neuface,
    "lvd": partial(VertexDescent, "lvd"),
    "glvd": partial(VertexDescent, "glvd"),
}


@dataclass
class AnnotatorConfig:
    """Which way of annotating, and the settings of each."""

    name: str = "flame_fitting"
    """Way of annotating: flame_fitting (direct parameter fitting, for any head), encoder, neuface, lvd or glvd."""
    device: str = "auto"
    """Torch device; auto takes the GPU where one is visible."""
    flame_fitting: DirectFitConfig = field(default_factory=DirectFitConfig)
    """Direct parameter fitting."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The bare encoder."""
    neuface: NeufaceAnnotatorConfig = field(default_factory=NeufaceAnnotatorConfig)
    """NeuFace optimisation of an encoder."""
    lvd: DescentAnnotatorConfig = field(default_factory=DescentAnnotatorConfig)
    """Learned vertex descent."""
    glvd: DescentAnnotatorConfig = field(default_factory=DescentAnnotatorConfig)
    """Guided learned vertex descent."""


def build_annotator(config: AnnotatorConfig, head: HeadModel) -> Annotator:
    """The annotator that ``config.name`` names, on ``head``.

    Raises:
        UsageError: no such annotator, or a weight file that is missing or does not match.
    """
    if config.name not in ANNOTATORS:
        raise UsageError(f"annotator.name={config.name!r} does not exist; choose one of {', '.join(ANNOTATORS)}")
    return ANNOTATORS[config.name](head, getattr(config, config.name), config.device)


__all__ = ["ANNOTATORS", "Annotator", "AnnotatorConfig", "build_annotator"]
