"""Make synthetic faces with exact truth.

    python jobs/synthesize.py --config configs/synthesize/NAME.yaml output=DIR [key=value ...]

Runs on the Ray cluster it finds itself in (RAY_ADDRESS, ray.address=...), else on this machine. Running the same command again
continues.

exit codes: 0 all is there; 2 wrong usage or configuration; 1 the run failed; 130 interrupted, what was finished is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from neuface_ray.config import from_command_line
from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.pipeline.synthesize import SynthesizeConfig, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Configuration in, library call, summary out; returns the exit code."""
    try:
        summary = run(from_command_line(SynthesizeConfig, __doc__, arguments))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NeufaceError as error:
        print(f"error: {error}\nexit 1: the run failed", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("exit 130: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    print(summary.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
