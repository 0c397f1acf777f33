"""`neuface report` as a file, for `ray job submit -- python jobs/report.py ...`."""

import sys

from neuface_ray.cli import report as main

if __name__ == "__main__":
    sys.exit(main())
