"""What an evaluation measured: tables, pictures, and acceptance criteria that are met or not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from neuface_ray.evaluation.tables import Row, markdown


@dataclass(frozen=True)
class Criterion:
    """An acceptance criterion and whether it is met.

    Args:
        name: as in ``N1``. statement: what must hold. passed: whether it holds. measured: the values it rests on, in a line.
    """

    name: str
    statement: str
    passed: bool
    measured: str

    @property
    def line(self) -> str:
        return f"{self.name} {'PASS' if self.passed else 'FAIL'} {self.statement}: {self.measured}"


@dataclass
class Report:
    """The result of an evaluation.

    Args:
        title: heading of the report. tables: rows by heading. criteria: in order. pictures: file names beside the report.
        facts: what was evaluated with what (seeds, weights, sizes).
    """

    title: str
    tables: dict[str, Sequence[Row]] = field(default_factory=dict)
    criteria: list[Criterion] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return all(criterion.passed for criterion in self.criteria)

    def markdown(self, digits: int = 3) -> str:
        """The report as text: criteria, tables, pictures, facts."""
        parts = [f"# {self.title}", *(f"- {criterion.line}" for criterion in self.criteria)]
        for heading, rows in self.tables.items():
            parts += [f"\n## {heading}\n", markdown(list(rows), digits=digits)]
        parts += [f"\n![{name}]({name})" for name in self.pictures]
        parts += ["\n## What was evaluated\n", *(f"- {name}: {value}" for name, value in self.facts.items())]
        return "\n".join(parts) + "\n"

    def write(self, folder: str | Path) -> Path:
        """Write ``report.md`` and ``report.json`` into ``folder``; return the path of the first."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        data = {"title": self.title, "passed": self.passed, "criteria": [asdict(criterion) for criterion in self.criteria]}
        data |= {"tables": {name: list(rows) for name, rows in self.tables.items()}, "facts": self.facts}
        (folder / "report.json").write_text(json.dumps(data, indent=1, default=float))
        path = folder / "report.md"
        path.write_text(self.markdown())
        return path
