"""`neuface synthesize` as a file, for `ray job submit -- python jobs/synthesize.py ...`."""

import sys

from neuface_ray.cli import synthesize as main

if __name__ == "__main__":
    sys.exit(main())
