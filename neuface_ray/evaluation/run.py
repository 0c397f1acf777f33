"""Which evaluations there are, their configuration, and running one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from neuface_ray.evaluation.report import Report
from neuface_ray.sections import REQUIRED, Entry, chosen, entry_of, fill_chosen, load_object

EVALUATIONS = {
    "encoder": Entry(
        implementation="neuface_ray.evaluation.encoder.experiment:evaluate",
        settings="neuface_ray.evaluation.encoder.settings:EncoderEvaluation",
        purpose="the encoder alone, on photographs and synthetic faces",
    ),
    "geometry": Entry(
        implementation="neuface_ray.evaluation.geometry.experiment:evaluate",
        settings="neuface_ray.evaluation.geometry.settings:GeometryEvaluation",
        purpose="scans and synthetic heads, scored scan to mesh",
    ),
    "neuface_claims": Entry(
        implementation="neuface_ray.evaluation.neuface.experiment:evaluate",
        settings="neuface_ray.evaluation.neuface.settings:NeufaceEvaluation",
        purpose="NeuFace, direct fitting and the encoder against the paper's acceptance criteria",
    ),
    "glvd_claims": Entry(
        implementation="neuface_ray.evaluation.glvd.experiment:evaluate",
        settings="neuface_ray.evaluation.glvd.settings:GlvdEvaluation",
        purpose="GLVD, LVD and baselines from one and from several views",
    ),
}
"""Functions ``(settings, head, output) -> Report`` by the name of the evaluation, which is that of its settings' section."""


@dataclass
class EvaluateConfig:
    """What is evaluated and where the report goes."""

    config_kind: ClassVar[str] = "evaluate"

    evaluation: str = REQUIRED
    """Which evaluation; its settings are the section of the same name."""
    output: str = REQUIRED
    """Folder of report.md, report.json and the pictures."""
    head: str = "open_head"
    """Head model: open_head, or the path of a FLAME file."""
    settings: Any = field(default=None, metadata=chosen(by="evaluation", among=lambda: EVALUATIONS))

    def __post_init__(self) -> None:
        fill_chosen(self)


def run(config: EvaluateConfig) -> Report:
    """Run the evaluation that ``config.evaluation`` names and write its report into ``config.output``.

    Raises:
        UsageError: what the evaluation needs is not there.
    """
    evaluate = load_object(entry_of(EVALUATIONS, "evaluation", config.evaluation).implementation)
    report: Report = evaluate(config.settings, config.head, config.output)
    report.write(config.output)
    return report
