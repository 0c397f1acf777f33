"""Kill a run again and again and count what is lost: annotating actors, the driver, whole nodes, at moments drawn by chance.

    python -m benchmarks.chaos --rounds 20 [--seed 0] [--out chaos.json]

One loopback cluster of three Ray nodes serves all rounds. In each round the annotation command runs on it while its processes
get SIGKILL and another process publishes at a moment of its own; the command is started again whenever its driver was killed,
until it ends by itself. Then the dataset is verified and compared row for row with that of an undisturbed run, both through
the reader and by a plain glob; all the while a reader watches for segments that appear twice or vanish.

Exits with 1 if a row was lost, doubled or altered, a reader was misled, or a run did not end by itself with exit code 0.
Needs the test dependencies; no GPU; about a minute for a round on two cores.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import skimage.data

from tests.faults.cluster import Cluster
from tests.faults.disturbed import Command, compare, disturb, make_videos

KINDS = ("actor", "driver", "node")
COLUMNS = ("round", *KINDS, "lost", "duplicated", "altered", "refitted", "recover_s", "worst_s", "seconds")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the table")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # leaves nothing running
    folder = Path(tempfile.mkdtemp(prefix="chaos"))
    portrait = np.ascontiguousarray(skimage.data.astronaut()[0:256, 96:352])
    videos = make_videos(folder / "videos", portrait, videos=6)
    undisturbed = Command(videos, folder / "undisturbed", folder / "undisturbed.log")
    if undisturbed.run() != 0:
        sys.exit(f"the undisturbed run failed: {undisturbed.log.read_text()}")
    print(" ".join(f"{name:>10}" for name in COLUMNS), flush=True)
    entries = []
    with Cluster() as cluster:
        for number in range(options.rounds):
            entry = play(number, random.Random(f"{options.seed}-{number}"), cluster, videos, folder)
            entries.append(entry)
            print(" ".join(f"{entry[name]:>10}" for name in COLUMNS), *entry["problems"], flush=True)
            cluster.restore()
    totals = {name: sum(entry[name] for entry in entries) for name in (*KINDS, "lost", "duplicated", "altered", "refitted")}
    totals["kills"] = sum(totals[kind] for kind in KINDS)
    failed = [entry["round"] for entry in entries if not entry["sound"]]
    print(", ".join(f"{value} {name}" for name, value in totals.items()), f"; rounds that failed: {failed or 'none'}")
    if options.out:
        options.out.write_text(json.dumps({"seed": options.seed, "totals": totals, "rounds": entries}, indent=2))
    if failed:
        print(f"logs and datasets are kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def play(number: int, dice: random.Random, cluster: Cluster, videos: Path, folder: Path) -> dict:
    """One round: every kind of kill once and one more of any kind, and a publish, in random order."""
    blows = [*KINDS, dice.choice(KINDS), "publish"]
    dice.shuffle(blows)
    output = folder / f"round{number}"
    command = Command(videos, output, folder / f"round{number}.log", (f"ray.address={cluster.address}",), cluster.environment)
    result = disturb(command, blows, dice, cluster)
    difference = compare(output, folder / "undisturbed")
    problems = [*result.problems, *difference.problems]
    if result.exit_code != 0:
        problems.append(f"exit code {result.exit_code}")
    return {
        "round": number,
        **{kind: result.kills[kind] for kind in KINDS},
        "lost": difference.lost,
        "duplicated": difference.duplicated,
        "altered": difference.altered,
        "refitted": result.refitted,
        "recover_s": round(statistics.median(result.recoveries), 1) if result.recoveries else 0.0,
        "worst_s": round(max(result.recoveries, default=0.0), 1),
        "seconds": round(result.seconds, 1),
        "problems": problems,
        "sound": not problems and not difference,
    }


if __name__ == "__main__":
    sys.exit(main())
