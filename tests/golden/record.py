"""Writes the golden values: ``python -m tests.golden.record [ITEM ...]``, all items or those named.

Done only on purpose, in the commit that changes results, whose message says which values changed and why. A commit that moves
or renames code never records. ``--digest`` writes nothing; it prints the sha256 of every array of every item, which on one
machine is the same before and after a change that computes the same, bit for bit. ``--clip`` draws the clip itself anew.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tests.golden.cases import CASES, compute, head
from tests.golden.clip import draw_clip
from tests.golden.summary import digest, summarise

FOLDER = Path(__file__).parent


def main() -> None:
    """Records or prints what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.record", description=__doc__)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"of {', '.join(CASES)}")
    parser.add_argument("--digest", action="store_true", help="print sha256 of every array and write nothing")
    parser.add_argument("--clip", action="store_true", help="draw the clip anew first")
    args = parser.parse_args()
    if unknown := set(args.items) - set(CASES):
        parser.error(f"no such item: {', '.join(sorted(unknown))}")
    if args.clip:
        draw_clip(head())
    for item in args.items or CASES:
        arrays = compute(item)
        if args.digest:
            for name, array in sorted(arrays.items()):
                print(f"{digest(array)}  {item}/{name}", flush=True)
        else:
            expected = {name: summarise(array) for name, array in arrays.items()}
            (FOLDER / f"{item}.json").write_text(formatted(expected))
            print(f"{item}: {len(arrays)} arrays", flush=True)


def formatted(expected: dict[str, dict[str, object]]) -> str:
    """JSON with one line an array."""
    lines = (f" {json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(expected.items()))
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    main()
