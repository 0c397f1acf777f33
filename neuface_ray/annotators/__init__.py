"""Ways of turning a face clip into a mesh sequence, all with one contract and chosen by ``annotator.name``."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuface_ray.annotators.base import Annotator
from neuface_ray.annotators.flame_fitting import FlameFitting
from neuface_ray.errors import UsageError
from neuface_ray.fitting.direct import DirectFitConfig
from neuface_ray.heads import HeadModel

ANNOTATORS = ("flame_fitting",)


@dataclass
class AnnotatorConfig:
    """Which way of annotating, and the settings of each."""

    name: str = field(default="flame_fitting", metadata={"help": f"way of annotating: {', '.join(ANNOTATORS)}"})
    device: str = field(default="auto", metadata={"help": "torch device; 'auto' takes the GPU where one is visible"})
    flame_fitting: DirectFitConfig = field(default_factory=DirectFitConfig, metadata={"help": "direct parameter fitting"})


def build_annotator(config: AnnotatorConfig, head: HeadModel) -> Annotator:
    """The annotator that ``config.name`` names, on ``head``.

    Raises:
        UsageError: no such annotator.
    """
    if config.name == "flame_fitting":
        return FlameFitting(head, config.flame_fitting, config.device)
    raise UsageError(f"annotator.name={config.name!r} does not exist; choose one of {', '.join(ANNOTATORS)}")


__all__ = ["ANNOTATORS", "Annotator", "AnnotatorConfig", "build_annotator"]
