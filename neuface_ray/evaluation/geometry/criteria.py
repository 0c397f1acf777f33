"""Acceptance criteria of geometry, D1 to D3, and the tables of its evaluation.

A row has ``set`` (scans or synthetic), ``head``, ``method``, ``seen`` (how the head was seen), ``turn`` (its yaw in degrees in
single views) and the keys of `scan_benchmark.score`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuface_ray.evaluation.report import Criterion, Report
from neuface_ray.evaluation.scan_benchmark import GAIN_KEY, gain, table
from neuface_ray.evaluation.tables import Row, numbers, select
from neuface_ray.metrics.statistics import Comparison, compare

SCANS, SYNTHETIC = "scans", "synthetic"
ONE, VIEWS, TURNING = "one view", "views together", "turning head"
GAIN_MM, PUBLIC_GAIN_MM = 0.4, 0.57


def make_report(
    rows: Sequence[Row], together: Sequence[float], turn_deg: float, turned: bool, facts: dict[str, object]
) -> Report:
    """Make the tables and criteria from the rows of all heads.

    Args:
        together: yaws in degrees of the views that are seen together. turn_deg: how far the head turns, if it is ``turned``.
    """
    report = Report("Geometry", facts=facts)
    for name in dict.fromkeys(row["set"] for row in rows):
        chosen = select(rows, set=name)
        report.tables[f"Scan to mesh, mm: {name}"] = table(chosen, ("method", "seen"))
        single = [row for row in chosen if row["seen"] in ("", ONE)]
        report.tables[f"One view by turn of the head, mm: {name}"] = table(single, ("method", "turn"))
    report.tables["Heads one by one: inner face, similarity, mm"] = head_lines(rows)
    report.criteria = [
        one_view_criterion(rows),
        more_views_criterion(rows, together, turn_deg, turned),
        public_gain_criterion(rows),
    ]
    return report


def head_lines(rows: Sequence[Row]) -> list[Row]:
    """A line for each head, a column for each method and way of seeing: mean errors over its pictures."""
    lines = []
    for name, head in dict.fromkeys((row["set"], row["head"]) for row in rows):
        chosen = select(rows, set=name, head=head)
        line: Row = {"set": name, "head": head}
        for method, seen in dict.fromkeys((row["method"], row["seen"]) for row in chosen):
            line[f"{method} {seen}".strip()] = mean_error(chosen, method, seen)
        lines.append(line)
    return lines


def one_view_criterion(rows: Sequence[Row]) -> Criterion:
    """D1: the gain over the mean head from one view, for encoder and NeuFace, on each set of heads."""
    gains = {(name, method): one_view_gain(rows, name, method) for name in sets(rows) for method in ("encoder", "neuface")}
    passed = all(found.difference >= GAIN_MM and found.low > 0 for found in gains.values())
    measured = ", ".join(f"{method} {formatted(found)} on {name}" for (name, method), found in gains.items())
    statement = f"encoder and NeuFace from one view beat the mean head by {GAIN_MM} mm, inner face"
    return Criterion("D1", statement, bool(passed), measured)


def more_views_criterion(rows: Sequence[Row], together: Sequence[float], turn_deg: float, turned: bool) -> Criterion:
    """D2: NeuFace's error from one view less that from a turning head and from views together, single views as far turned."""
    turns = {VIEWS: {abs(yaw) for yaw in together}}
    if turned:
        turns[TURNING] = {row["turn"] for row in rows if row["seen"] == ONE and row["turn"] <= turn_deg}
    gains = {seen: more_views_gain(rows, seen, degrees) for seen, degrees in turns.items()}
    passed = turned and all(found.low > 0 for found in gains.values())
    measured = ", ".join(f"{seen} {formatted(found)}" for seen, found in gains.items())
    return Criterion("D2", "NeuFace over a turning head and from several views beats one view", bool(passed), measured)


def public_gain_criterion(rows: Sequence[Row]) -> Criterion:
    """D3: NeuFace's gain from one view against 3DDFA_V2's, on scans if there are any."""
    name = sets(rows)[0]
    neuface, encoder = (one_view_gain(rows, name, method) for method in ("neuface", "encoder"))
    measured = f"neuface {formatted(neuface)}, encoder {formatted(encoder)} on {name}"
    statement = f"NeuFace from one view passes 3DDFA_V2's gain of {PUBLIC_GAIN_MM} mm over the mean head"
    return Criterion("D3", statement, bool(neuface.difference > PUBLIC_GAIN_MM), measured)


def one_view_gain(rows: Sequence[Row], name: str, method: str) -> Comparison:
    """The mean head's error less a method's from one view on a set of heads; bootstrap over heads."""
    chosen = select(rows, set=name)
    return gain(chosen, select(chosen, method=method, seen=ONE))


def more_views_gain(rows: Sequence[Row], seen: str, turns: set[float]) -> Comparison:
    """NeuFace's mean error from single views of these turns less that of a richer way of seeing; paired by head."""
    heads = list(dict.fromkeys((row["set"], row["head"]) for row in rows))
    single = [row for row in rows if row["seen"] == ONE and row["turn"] in turns]
    first, second = (
        np.array([mean_error(select(part, set=name, head=head), "neuface", way) for name, head in heads])
        for part, way in ((single, ONE), (rows, seen))
    )
    return compare(first, second)


def mean_error(rows: Sequence[Row], method: str, seen: str) -> float:
    """Mean error of a method in mm (inner face, similarity) over the pictures in which it succeeded; NaN if there are none."""
    errors = numbers(select(rows, method=method, seen=seen), GAIN_KEY)
    errors = errors[~np.isnan(errors)]
    return float(np.mean(errors)) if len(errors) else float("nan")


def sets(rows: Sequence[Row]) -> list[str]:
    """The sets that have heads, scans first."""
    return [name for name in (SCANS, SYNTHETIC) if any(row["set"] == name for row in rows)]


def formatted(gain_mm: Comparison) -> str:
    """A gain in mm with its 95 % interval, as text."""
    return f"{gain_mm.difference:.2f} mm ({gain_mm.low:.2f} to {gain_mm.high:.2f})"
