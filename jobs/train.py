"""Train a network on mesh datasets.

    python jobs/train.py --config configs/train/NAME.yaml data=[DIR,...] output=DIR [key=value ...]

Runs on the Ray cluster it finds itself in (`ray job submit -- python jobs/train.py ...`, RAY_ADDRESS, cluster.address=...),
else on this machine. Running the same command again continues from the last checkpoint.

exit codes: 0 trained, the weights are in output/model.safetensors; 2 wrong usage, configuration or data; 1 the training failed;
130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from neuface_ray.config import from_command_line
from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.training.config import TrainConfig
from neuface_ray.training.run import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Configuration in, library call, summary out; returns the exit code."""
    try:
        summary = run(from_command_line(TrainConfig, __doc__, arguments))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NeufaceError as error:
        print(f"error: {error}\nexit 1: run the same command again to continue from the last checkpoint", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("exit 130: interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    print(summary.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
