"""Annotate face videos and photos.

    python jobs/annotate.py --config configs/annotate/NAME.yaml input=PATH output=DIR [key=value ...]

Runs on the Ray cluster it finds itself in (`ray job submit -- python jobs/annotate.py ...`, RAY_ADDRESS, ray.address=...), else
on this machine. Running the same command again continues.

exit codes: 0 every segment is in the dataset (clips that the quality gate rejects included); 3 some segments are in quarantine;
2 wrong usage, configuration or input; 1 the run failed; 130 interrupted, what was committed is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from neuface_ray.config import from_command_line
from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.pipeline.annotate import run
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.visualization.report import ReportConfig, draw


def main(arguments: Sequence[str] | None = None) -> int:
    """Configuration in, library call, summary out; returns the exit code."""
    try:
        config = from_command_line(AnnotateConfig, __doc__, arguments)
        summary = run(config)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NeufaceError as error:
        print(f"error: {error}\nexit 1: the run failed", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("exit 130: interrupted before anything was started", file=sys.stderr)
        return 130
    print(summary.table())
    if config.report:
        show(ReportConfig(dataset=summary.output, clips=config.report_clips, head=config.head))
    print(summary.conclusion)
    return summary.exit_code


def show(config: ReportConfig) -> None:
    """Makes the pictures; the dataset stands whether or not they can be made."""
    try:
        print(*(f"{'picture':<12} {path}" for path in draw(config)), sep="\n")
    except NeufaceError as error:
        print(f"{'picture':<12} none: {error}")


if __name__ == "__main__":
    sys.exit(main())
