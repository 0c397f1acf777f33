"""Evaluate methods against truth and check what they promise.

    python jobs/evaluate.py --config configs/evaluate/NAME.yaml [output=DIR] [key=value ...]

Prints the report's tables and one line a claim (`N1 PASS ...` or `N1 FAIL ...` with its figures); report.md, report.json and
the pictures go to output.

exit codes: 0 every claim holds; 4 the evaluation ran and a claim fails; 2 wrong usage, configuration or input; 1 the run
failed; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from neuface_ray.config import from_command_line
from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.evaluation.run import EvaluateConfig, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Configuration in, library call, claims out; returns the exit code."""
    try:
        config = from_command_line(EvaluateConfig, __doc__, arguments)
        findings = run(config)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NeufaceError as error:
        print(f"error: {error}\nexit 1: the run failed", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("exit 130: interrupted", file=sys.stderr)
        return 130
    print(findings.markdown())
    print(*(claim.line for claim in findings.claims), f"report       {config.output}/report.md", sep="\n")
    return 0 if findings.passed else 4


if __name__ == "__main__":
    sys.exit(main())
