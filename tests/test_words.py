"""Retired names stay out of the code and of the configurations: what they are called now stands beside them.

A name is retired as what is *defined*: functions, classes, fields, parameters, variables, attributes, modules, and keys of
configurations. What other libraries define may be called as it is. Keys of earlier versions are translated by
``neuface_ray.renamed``; it, its tests and the files that keep their name for users' commands are exempt.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CODE = ("neuface_ray", "jobs", "benchmarks", "cluster")
TEXT = (*CODE, "tests", "configs", "docs", "README.md", "Makefile", "pyproject.toml", "CONTRIBUTING.md")
EXEMPT = (
    "neuface_ray/renamed.py",
    "tests/test_renamed.py",
    "tests/test_words.py",
    "tests/pipeline/test_resume.py",
    "tests/dataset/test_descriptor.py",
    "tests/dataset/descriptors/",
    "tests/training/finished/",
    "configs/annotate/flame_fitting.yaml",
    "configs/evaluate/neuface_claims.yaml",
    "configs/evaluate/glvd_claims.yaml",
)

RETIRED = {
    "claims": "criteria",
    "Claim": "Criterion",
    "Findings": "Report",
    "findings": "report",
    "sitter": "subject",
    "sitters": "subjects",
    "Sitter": "Subject",
    "seated": "load",
    "workplace": "worker_state",
    "Bench": "the noun itself, or AnnotationSession",
    "bench": "session, or the noun itself",
    "Workbench": "AnnotationSession",
    "workbench": "session",
    "CONTENDERS": "BASELINES",
    "contenders": "baselines",
    "rivals": "baselines",
    "labelled": "clip with ground truth",
    "Labelled": "GroundTruthClip",
    "call_all": "parallel_map",
    "Journal": "RunLog",
    "journal": "run_log",
    "Ledger": "SegmentResult",
    "ledger": "results",
    "keep_books": "consume_results",
    "close_books": "finalise_run",
    "books": "counts",
    "account": "the noun itself",
    "accounts": "consistency",
    "unaccounted": "missing",
    "settle": "reconcile",
    "settled": "done",
    "last_words": "read_crash_trace",
    "forget": "clear_trace",
    "watched": "time_limit",
    "watchdog": "time_limit",
    "judge": "apply_gate",
    "Verdict": "GateDecision",
    "verdict": "decision",
    "moves_from": "trainable_from",
    "passes": "iterations",
    "released": "official_code",
    "pace": "frame_rate_ratio",
    "anchor": "prior_mean",
    "Code": "HeadParameters",
    "Codes": "HeadParameters",
    "expansion": "shrinkage_correction",
    "signal": "snr",
    "flame_fitting": "direct_fitting",
    "FlameFitting": "DirectFitting",
    "descent_file": "weight_file",
    "trust": "confidence",
    "votes": "per_view",
    "way_of": "rollout",
    "some_of": "random_subset",
    "chance": "bernoulli",
    "Reading": "SampleSpec",
    "Unit": "Shard",
    "Step": "StepContext",
    "Clock": "ThroughputMeter",
    "clock": "meter",
    "Patience": "SchedulerThrottle",
    "Stage": "Renderer",
    "Look": "Appearance",
    "chart": "uv_atlas",
    "photo": "camera_effects",
    "sculpted": "untextured",
    "skins": "textures",
    "told": "args",
    "said": "formatted",
    "own": "the noun itself",
    "given": "the noun itself",
    "made": "the noun itself",
    "words": "the noun itself",
    "whole": "the noun itself",
    "Job": "WorkerContext, or the noun itself",
    "Made": "SynthesisSummary",
    "MISSING": "neuface_ray.config.REQUIRED",
}
"""No name of ours, of whatever kind -> what to say."""

RETIRED_DEFINITIONS = {
    "take": "load, or render",
    "capture": "render_to_clip",
    "kept": "worker_state",
    "seen": "observations",
    "plain": "unshaded",
    "odd": "random_expressions",
    "pool": "parallel_map",
    "column": "the noun itself",
    "Summary": "say of what",
    "Progress": "say of what",
}
"""Ordinary words that may be variables, but no function, class, field or module -> what to say."""

RETIRED_TEXT = {
    r"(?<!annotate/)(?<!--config )\bflame_fitting\b": "direct_fitting",
    r"\bmoves_from\b": "trainable_from",
    r"\blast_words\b": "read_crash_trace",
    r"\b(keep|close)_books\b": "consume_results, finalise_run",
    r"\bWorkbench\b": "AnnotationSession",
    r"\bVerdict\b": "GateDecision",
    r"\bCONTENDERS\b": "BASELINES",
    r"\bcall_all\b": "parallel_map",
    r"\bdescent_file\b": "weight_file",
    r"\bledger\b": "segment result",
    r"neuface_ray[./]claims\b": "neuface_ray.evaluation",
    r"neuface_ray[./]annotators\b": "neuface_ray.methods",
    r"\boutput\.finalise\(": "finalise(output.store)",
}
"""No text anywhere, documentation and messages included -> what to say."""


def files(roots: tuple[str, ...], suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Files below the roots, without those that are exempt."""
    for root in roots:
        for file in [ROOT / root] if (ROOT / root).is_file() else sorted((ROOT / root).rglob("*")):
            if file.is_file() and file.suffix in suffixes and not file.relative_to(ROOT).as_posix().startswith(EXEMPT):
                yield file


def definitions(file: Path) -> Iterator[tuple[str, str, int]]:
    """(name, kind, line) of everything that a module defines; kind is ``definition`` or ``variable``."""
    tree = ast.parse(file.read_text())
    fields = {
        id(statement.target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
    }
    yield (file.parent.name if file.stem == "__init__" else file.stem), "definition", 1
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, "definition", node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, "variable", node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, "definition" if id(node) in fields else "variable", node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, "variable", node.lineno
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [(alias.asname or alias.name, alias.asname or isinstance(node, ast.ImportFrom)) for alias in node.names]
            yield from ((name, "variable", node.lineno) for name, ours in names if ours)


def keys(tree: object) -> Iterator[str]:
    """The keys of nested settings."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield str(key)
        yield from keys(value)


@cache
def found() -> dict[str, list[str]]:
    """Retired name -> places where it is."""
    places: dict[str, list[str]] = {}
    for file in files(CODE, (".py",)):
        for name, kind, line in definitions(file):
            if name in RETIRED or (name in RETIRED_DEFINITIONS and kind == "definition"):
                places.setdefault(name, []).append(f"{file.relative_to(ROOT)}:{line}")
    for file in files(("configs",), (".yaml",)):
        for key in keys(yaml.safe_load(file.read_text())):
            if key in RETIRED or key in RETIRED_DEFINITIONS:
                places.setdefault(key, []).append(f"{file.relative_to(ROOT)}: {key}")
    for file in files(TEXT, (".py", ".md", ".yaml", ".toml", "")):
        text = file.read_text(errors="ignore")
        for pattern in RETIRED_TEXT:
            lines = sorted({text.count("\n", 0, match.start()) + 1 for match in re.finditer(pattern, text)})
            if lines:
                places.setdefault(pattern, []).append(f"{file.relative_to(ROOT)}:{','.join(map(str, lines))}")
    return places


def test_retired_names_stay_out():
    instead = RETIRED | RETIRED_DEFINITIONS | RETIRED_TEXT
    wrong = found()
    assert not wrong, "\n".join(f"{name} (say: {instead[name]}): {', '.join(places)}" for name, places in wrong.items())


def test_the_search_finds_definitions_of_every_kind(tmp_path):
    file = tmp_path / "judge.py"
    file.write_text(
        "import watched as forget\nfrom a import Verdict\nclass Bench:\n    passes: int = 1\n"
        "    def told(self, own, *, given=0):\n        self.made = words = own.kept\n"
    )
    names = {(name, kind) for name, kind, _ in definitions(file)}
    variables = ("forget", "Verdict", "own", "given", "made", "words", "self")
    assert names == {
        *((name, "variable") for name in variables),
        *((name, "definition") for name in ("judge", "Bench", "passes", "told")),
    }
