"""Settings that evaluations of annotators share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from neuface_ray.methods.registry import annotators
from neuface_ray.sections import chosen, fill_chosen
from neuface_ray.synthesis.materials import Materials


@dataclass(frozen=True)
class BaselineSettings(Materials):
    """Annotators under evaluation, each with a section of its settings, on drawn and real pictures."""

    methods: list[str] = field(default_factory=lambda: ["encoder"])
    """Annotators under evaluation."""
    weights: str | None = None
    """File of the compact encoder, for all annotators that need one; null takes the packaged one."""
    device: str = "auto"
    """Torch device; auto takes the GPU where one is visible."""
    settings: Any = field(default=None, metadata=chosen(by="methods", among=annotators))

    def __post_init__(self) -> None:
        fill_chosen(self)
