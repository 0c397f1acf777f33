"""Look at a dataset: an overlay video for each of some clips, and a contact sheet of them all.

    python jobs/report.py dataset=DIR [choose=worst] [clips=6] [key=value ...]

exit codes: 0 pictures made; 2 wrong usage or no such dataset; 1 no source could be read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from neuface_ray.config import from_command_line
from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.visualization.report import ReportConfig, draw


def main(arguments: Sequence[str] | None = None) -> int:
    """Configuration in, library call, paths out; returns the exit code."""
    try:
        paths = draw(from_command_line(ReportConfig, __doc__, arguments))
    except NeufaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print(*paths, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
