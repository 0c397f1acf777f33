"""Which evaluations there are, their configuration, and running one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from omegaconf import MISSING

from neuface_ray.errors import UsageError
from neuface_ray.evaluation import encoder, geometry
from neuface_ray.evaluation.glvd import experiment as glvd
from neuface_ray.evaluation.neuface import experiment as neuface
from neuface_ray.evaluation.report import Findings


@dataclass
class EvaluateConfig:
    """What is evaluated and where the report goes."""

    evaluation: str = MISSING
    """Which evaluation: one of the sections below."""
    output: str = MISSING
    """Folder of report.md, report.json and the pictures."""
    head: str = "open_head"
    """Head model: open_head, or the path of a FLAME file."""
    glvd_claims: glvd.GlvdClaims = field(default_factory=glvd.GlvdClaims)
    """GLVD, LVD and their rivals from one and from several views."""
    encoder: encoder.EncoderEvaluation = field(default_factory=encoder.EncoderEvaluation)
    """The encoder alone."""
    geometry: geometry.GeometryEvaluation = field(default_factory=geometry.GeometryEvaluation)
    """Scans and synthetic heads, scored scan to mesh."""
    neuface_claims: neuface.NeufaceClaims = field(default_factory=neuface.NeufaceClaims)
    """NeuFace, direct fitting and the encoder against the paper's claims."""


EVALUATIONS: dict[str, Callable[[EvaluateConfig], Findings]] = {
    "encoder": encoder.evaluate,
    "glvd_claims": glvd.evaluate,
    "geometry": geometry.evaluate,
    "neuface_claims": neuface.evaluate,
}


def run(config: EvaluateConfig) -> Findings:
    """Runs the evaluation that ``config.evaluation`` names and writes its report into ``config.output``.

    Raises:
        UsageError: no such evaluation, or what it needs is not there.
    """
    if config.evaluation not in EVALUATIONS:
        raise UsageError(f"evaluation={config.evaluation!r} does not exist; choose one of {', '.join(EVALUATIONS)}")
    findings = EVALUATIONS[config.evaluation](config)
    findings.write(config.output)
    return findings
