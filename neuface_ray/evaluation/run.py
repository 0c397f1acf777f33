"""Which evaluations there are, their configuration, and running one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pkgutil import resolve_name

from omegaconf import MISSING

from neuface_ray.errors import UsageError
from neuface_ray.evaluation.encoder.settings import EncoderEvaluation
from neuface_ray.evaluation.geometry.settings import GeometryEvaluation
from neuface_ray.evaluation.glvd.settings import GlvdEvaluation
from neuface_ray.evaluation.neuface.settings import NeufaceEvaluation
from neuface_ray.evaluation.report import Report

EVALUATIONS = {
    "encoder": "neuface_ray.evaluation.encoder.experiment:evaluate",
    "glvd_claims": "neuface_ray.evaluation.glvd.experiment:evaluate",
    "geometry": "neuface_ray.evaluation.geometry.experiment:evaluate",
    "neuface_claims": "neuface_ray.evaluation.neuface.experiment:evaluate",
}
"""Functions ``(settings, head, output) -> Report`` by the name of the evaluation, which is that of its settings' section."""


@dataclass
class EvaluateConfig:
    """What is evaluated and where the report goes."""

    evaluation: str = MISSING
    """Which evaluation: one of the sections below."""
    output: str = MISSING
    """Folder of report.md, report.json and the pictures."""
    head: str = "open_head"
    """Head model: open_head, or the path of a FLAME file."""
    glvd_claims: GlvdEvaluation = field(default_factory=GlvdEvaluation)
    """GLVD, LVD and their baselines from one and from several views."""
    encoder: EncoderEvaluation = field(default_factory=EncoderEvaluation)
    """The encoder alone."""
    geometry: GeometryEvaluation = field(default_factory=GeometryEvaluation)
    """Scans and synthetic heads, scored scan to mesh."""
    neuface_claims: NeufaceEvaluation = field(default_factory=NeufaceEvaluation)
    """NeuFace, direct fitting and the encoder against the paper's acceptance criteria."""


def run(config: EvaluateConfig) -> Report:
    """Run the evaluation that ``config.evaluation`` names and write its report into ``config.output``.

    Raises:
        UsageError: no such evaluation, or what it needs is not there.
    """
    if config.evaluation not in EVALUATIONS:
        raise UsageError(f"evaluation={config.evaluation!r} does not exist; choose one of {', '.join(EVALUATIONS)}")
    evaluate = resolve_name(EVALUATIONS[config.evaluation])
    report: Report = evaluate(getattr(config, config.evaluation), config.head, config.output)
    report.write(config.output)
    return report
