"""Rows of results: choosing among them, and formatting them as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Row = dict[str, object]
"""A line of a table, or one measurement: values by name."""


def select(rows: Sequence[Row], **wanted: object) -> list[Row]:
    """The rows that have the wanted values, as in ``select(rows, method="encoder")``; None stands for any."""
    return [row for row in rows if all(value is None or row.get(name) == value for name, value in wanted.items())]


def numbers(rows: Sequence[Row], name: str) -> np.ndarray:
    """Float64 (n,) of the rows' values ``name``; NaN where a row has none."""
    return np.array([row.get(name, np.nan) for row in rows], np.float64)


def markdown(rows: Sequence[Row], columns: Sequence[str] | None = None, digits: int = 3) -> str:
    """Format rows as a Markdown table, one column for each key in order of appearance, numbers right-aligned.

    Args:
        digits: significant digits of floats; NaN and None become a dash.
    """
    columns = list(columns or dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column), digits) for column in columns] for row in rows]
    numeric = [any(isinstance(row.get(column), (int, float)) for row in rows) for column in columns]
    widths = [max(3, len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)]

    def line(texts: Sequence[str]) -> str:
        aligned = zip(texts, widths, numeric, strict=True)
        return "| " + " | ".join(text.rjust(width) if right else text.ljust(width) for text, width, right in aligned) + " |"

    rule = (
        "|" + "|".join("-" * (width + 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True)) + "|"
    )
    return "\n".join([line(columns), rule, *(line(texts) for texts in cells)]) + "\n"


def _cell(value: object, digits: int) -> str:
    value = _plain(value)
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    return str(value).replace("|", "\\|")


def _plain(value: object) -> object:
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
