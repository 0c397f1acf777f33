"""Look at a dataset: an overlay video for each of some clips, and a contact sheet of them all.

    python jobs/report.py dataset=DIR [choose=worst] [clips=6] [key=value ...]

exit codes: 0 pictures made; 2 wrong usage or no such dataset; 1 no source could be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from neuface_ray.config import describe, load
from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.pipeline.report import ReportConfig, draw


def main(arguments: Sequence[str] | None = None) -> int:
    """Configuration in, library call, paths out; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"keys:\n\n{describe(ReportConfig)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the keys below")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as choose=worst clips=6")
    options = parser.parse_args(arguments)
    try:
        paths = draw(load(ReportConfig, options.config, options.overrides))
    except NeufaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print(*paths, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
