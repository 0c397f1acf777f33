"""`neuface evaluate` as a file, for `ray job submit -- python jobs/evaluate.py ...`."""

import sys

from neuface_ray.cli import evaluate as main

if __name__ == "__main__":
    sys.exit(main())
