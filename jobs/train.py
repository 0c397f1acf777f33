"""`neuface train` as a file, for `ray job submit -- python jobs/train.py ...`."""

import sys

from neuface_ray.cli import train as main

if __name__ == "__main__":
    sys.exit(main())
