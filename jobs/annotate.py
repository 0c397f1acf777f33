"""Annotate face videos and photos.

    python jobs/annotate.py --config configs/annotate/NAME.yaml input=PATH output=DIR [key=value ...]

Runs on the Ray cluster it finds itself in (`ray job submit -- python jobs/annotate.py ...`, RAY_ADDRESS, ray.address=...), else
on this machine. Running the same command again continues.

exit codes: 0 every segment is in the dataset (clips that the quality gate rejects included); 3 some segments are in quarantine;
2 wrong usage, configuration or input; 1 the run failed; 130 interrupted, what was committed is kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from neuface_ray.config import describe, load
from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.pipeline.annotate import run
from neuface_ray.pipeline.config import AnnotateConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Configuration in, library call, summary out; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"keys:\n\n{describe(AnnotateConfig)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the keys below")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the file, such as media.max_faces=1")
    options = parser.parse_args(arguments)
    try:
        config = load(AnnotateConfig, options.config, options.overrides)
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
        from neuface_ray.pipeline.report import report

        print(*(f"{'picture':<12} {path}" for path in report(summary.output, config.report_clips)), sep="\n")
    print(summary.outcome)
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main())
