"""Charts of evaluations: matplotlib, loaded when the first is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuface_ray.extras import load_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pyplot() -> Any:
    """``matplotlib.pyplot``, drawing into files; UsageError, naming the extra, when matplotlib is not installed."""
    load_extra("matplotlib", "the charts of this evaluation").use("Agg")
    return load_extra("matplotlib.pyplot", "the charts of this evaluation")


def subplots(*args: Any, **options: Any) -> tuple[Figure, Any]:
    """``matplotlib.pyplot.subplots``."""
    return pyplot().subplots(*args, **options)


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write a chart to ``folder`` and close it; returns its name."""
    figure.tight_layout()
    figure.savefig(folder / name, dpi=110)
    pyplot().close(figure)
    return name
