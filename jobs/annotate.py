"""`neuface annotate` as a file, for `ray job submit -- python jobs/annotate.py ...`."""

import sys

from neuface_ray.cli import annotate as main

if __name__ == "__main__":
    sys.exit(main())
