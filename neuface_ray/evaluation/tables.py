"""Tables of results, as Markdown to read and JSON to compute with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = Mapping[str, object]


def markdown(rows: Sequence[Row], columns: Sequence[str] | None = None, digits: int = 3) -> str:
    """A Markdown table of rows, one column for each key in order of appearance, numbers right-aligned.

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


def write(path: str | Path, rows: Sequence[Row], title: str, notes: str = "") -> tuple[Path, Path]:
    """Writes ``path.md`` and ``path.json``; returns both paths. NaN becomes null in JSON."""
    markdown_path, json_path = Path(f"{path}.md"), Path(f"{path}.json")
    markdown_path.parent.mkdir(parents=True, exist_ok=True)
    markdown_path.write_text(f"# {title}\n\n{markdown(rows)}" + (f"\n{notes.strip()}\n" if notes else ""), encoding="utf-8")
    content = {"title": title, "notes": notes, "rows": [{key: _plain(value) for key, value in row.items()} for row in rows]}
    json_path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return markdown_path, json_path


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
