"""Acceptance criteria of the encoder alone, E1 on photographs and E2 on synthetic faces, and the tables of its evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from neuface_ray.evaluation.report import Criterion, Report
from neuface_ray.evaluation.tables import Row, numbers, select
from neuface_ray.metrics.statistics import compare, summarise

YAW_BINS_DEG = (0, 15, 30, 45, 60, 75)
PHOTO_MEDIAN, PHOTO_MEAN, GEOMETRY_GAIN_MM = 4.0, 6.0, 0.4


def make_report(photographs: Sequence[Row], faces: Sequence[Row], facts: dict[str, object]) -> Report:
    """Make the tables and criteria from the rows of photographs and of synthetic faces."""
    report = Report("The compact encoder", facts=facts)
    methods = list(dict.fromkeys(row["method"] for row in [*photographs, *faces]))
    if photographs:
        report.tables["Photographs"] = [photograph_line(name, select(photographs, method=name)) for name in methods]
        report.criteria.append(photograph_criterion(numbers(select(photographs, method="encoder"), "nme")))
    if faces:
        lines = [line for name in methods for line in yaw_lines(name, select(faces, method=name))]
        report.tables["Synthetic faces by yaw, true and detected landmarks, geometry"] = lines
        report.criteria.append(neutral_criterion(select(faces, method="encoder")))
    if photographs:
        report.tables["Photographs one by one"] = photographs
    return report


def photograph_line(method: str, rows: Sequence[Row]) -> Row:
    """Medians and means of NME in percent over the photographs in which a face is found."""
    line: Row = {"method": method, "photographs": len(rows), "with a face": sum(bool(row["found"]) for row in rows)}
    for key, name in {"nme": "detected", "nme68": "annotated 68", "nme51": "inner 51"}.items():
        error = summarise(numbers(rows, key))
        line |= {f"{name} n": error.n, f"{name} median": error.median, f"{name} mean": error.mean}
    return line


def yaw_lines(method: str, rows: Sequence[Row]) -> Iterator[Row]:
    """A line for each yaw bin, and one for all."""
    yaw = numbers(rows, "yaw_deg")
    for low, high in [*itertools.pairwise(YAW_BINS_DEG), (0, 90)]:
        chosen = [row for row, angle in zip(rows, yaw, strict=True) if low <= angle < high]
        if not chosen:
            continue
        line: Row = {"method": method, "yaw": "all" if high == 90 else f"{low}-{high}", "faces": len(chosen)}
        line["not found %"] = 100 * float(np.mean([not row["found"] for row in chosen]))
        for key in ("true_nme", "true_nme_box", "found_nme", "detector_nme"):
            error = summarise(numbers(chosen, key))
            line |= {f"{key} median": error.median, f"{key} mean": error.mean}
        line["rotation deg"] = summarise(numbers(chosen, "rotation_deg")).mean
        for how in ("similarity", "rigid"):
            line |= {
                f"{name} {how} mm": summarise(numbers(chosen, f"{name}_{how}_mm")).mean for name in ("neutral", "mean_head")
            }
        yield line


def photograph_criterion(errors: np.ndarray) -> Criterion:
    """E1, from the NME (n,) of photographs in percent; NaN where no face is found."""
    error = summarise(errors)
    passed = error.n > 0 and error.median <= PHOTO_MEDIAN and error.mean <= PHOTO_MEAN
    interval = f"({error.low:.2f} to {error.high:.2f})"
    measured = f"median {error.median:.2f} %, mean {error.mean:.2f} % {interval} of {error.n} photographs"
    statement = f"encoder alone on photographs: median NME at most {PHOTO_MEDIAN} %, mean at most {PHOTO_MEAN} %"
    return Criterion("E1", statement, bool(passed), measured)


def neutral_criterion(rows: Sequence[Row]) -> Criterion:
    """E2, from the encoder's rows: the expressionless inner face, similarity-aligned, against the mean head's."""
    mean_head, encoder = numbers(rows, "mean_head_similarity_mm"), numbers(rows, "neutral_similarity_mm")
    gain = compare(mean_head, encoder)
    measured = (
        f"{summarise(encoder).mean:.2f} mm against {summarise(mean_head).mean:.2f} mm, gain {gain.difference:.2f} mm "
        f"({gain.low:.2f} to {gain.high:.2f}, {gain.n} persons)"
    )
    statement = f"encoder alone knows identities never seen: at least {GEOMETRY_GAIN_MM} mm below the mean head, inner face"
    return Criterion("E2", statement, bool(gain.difference >= GEOMETRY_GAIN_MM and gain.low > 0), measured)
