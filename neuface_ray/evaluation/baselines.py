"""Annotators under evaluation by name, with one file of weights for all that need an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from neuface_ray.errors import UsageError
from neuface_ray.heads import HeadModel
from neuface_ray.methods.direct_fitting.fit import DirectFitConfig
from neuface_ray.methods.encoder.annotator import EncoderConfig, NeufaceAnnotatorConfig
from neuface_ray.methods.neuface.fit import NeufaceConfig
from neuface_ray.methods.registry import Annotator, AnnotatorConfig, build_annotator

CONTENDERS = ("encoder", "flame_fitting", "neuface")


@dataclass
class ContenderSettings:
    """Settings of the annotators under evaluation."""

    weights: str | None = None
    """File of the compact encoder, alone and in NeuFace; null takes the packaged one."""
    device: str = "auto"
    """Torch device; auto takes the GPU where one is visible."""
    flame_fitting: DirectFitConfig = field(default_factory=DirectFitConfig)
    """Direct parameter fitting."""
    neuface: NeufaceConfig = field(default_factory=NeufaceConfig)
    """The NeuFace optimisation."""


def build_contenders(names: Sequence[str], settings: ContenderSettings, head: HeadModel) -> dict[str, Annotator]:
    """The annotators of these names on ``head``.

    Raises:
        UsageError: no such annotator, or weights that are missing or do not match.
    """
    unknown = [name for name in names if name not in CONTENDERS]
    if unknown:
        raise UsageError(f"method {unknown[0]!r} does not exist; choose from {', '.join(CONTENDERS)}")
    encoder = EncoderConfig(path=settings.weights)
    config = AnnotatorConfig(
        device=settings.device,
        flame_fitting=settings.flame_fitting,
        encoder=encoder,
        neuface=NeufaceAnnotatorConfig(encoder, settings.neuface),
    )
    return {name: build_annotator(replace(config, name=name), head) for name in names}
