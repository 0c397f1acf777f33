"""What an evaluation finds: tables, pictures, and claims that hold or do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from neuface_ray.evaluation.tables import markdown


@dataclass(frozen=True)
class Claim:
    """A statement that the figures bear out or refute.

    Args:
        name: as in ``N1``. statement: what is claimed. passed: whether it holds. figures: the numbers it rests on, in a line.
    """

    name: str
    statement: str
    passed: bool
    figures: str

    @property
    def line(self) -> str:
        return f"{self.name} {'PASS' if self.passed else 'FAIL'} {self.statement}: {self.figures}"


@dataclass
class Findings:
    """All that an evaluation found.

    Args:
        title: heading of the report. tables: rows by heading. claims: in order. pictures: file names beside the report.
        facts: what was evaluated with what (seeds, weights, sizes).
    """

    title: str
    tables: dict[str, Sequence[dict[str, object]]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return all(claim.passed for claim in self.claims)

    def markdown(self, digits: int = 3) -> str:
        """The report: claims, tables, pictures, facts."""
        parts = [f"# {self.title}", *(f"- {claim.line}" for claim in self.claims)]
        for heading, rows in self.tables.items():
            parts += [f"\n## {heading}\n", markdown(list(rows), digits=digits)]
        parts += [f"\n![{name}]({name})" for name in self.pictures]
        parts += ["\n## What was evaluated\n", *(f"- {name}: {value}" for name, value in self.facts.items())]
        return "\n".join(parts) + "\n"

    def write(self, folder: str | Path) -> Path:
        """Writes ``report.md`` and ``report.json`` into ``folder``; returns the path of the first."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        data = {"title": self.title, "passed": self.passed, "claims": [asdict(claim) for claim in self.claims]}
        data |= {"tables": {name: list(rows) for name, rows in self.tables.items()}, "facts": self.facts}
        (folder / "report.json").write_text(json.dumps(data, indent=1, default=float))
        report = folder / "report.md"
        report.write_text(self.markdown())
        return report
