"""NeuFace with its whole network moving, as in the paper, against its top alone: error, stability and speed, paired.

    python -m benchmarks.moving_layers --out outputs/moving_layers --sequences 6 [neuface_claims.KEY=VALUE ...]

Both fit the same rendered sequences with the same landmarks, found by the detector; the sequences are kept in the folder. Each
line of the table is a mean over sequences and the difference top - whole with its 95 % interval (paired bootstrap).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from neuface_ray.config import load
from neuface_ray.evaluation import tables
from neuface_ray.evaluation.neuface import criteria as rules
from neuface_ray.evaluation.neuface import experiment as neuface
from neuface_ray.evaluation.neuface import variants as methods
from neuface_ray.evaluation.run import EvaluateConfig
from neuface_ray.methods.encoder.weights import load_encoder
from neuface_ray.pipeline.parallel_map import call_all

MEASURED = {
    "NME %": "nme",
    "NME true %": "nme_true",
    "MSI_V": "msi_v",
    "CVD mm": "cvd",
    "MPVE rigid mm": "mpve_rigid",
    "MPVE root mm": "mpve_root",
    "face-frames/s": "face_frames_per_s",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/moving_layers"))
    parser.add_argument("--sequences", type=int, default=6)
    parser.add_argument("overrides", nargs="*", help="settings, such as neuface_claims.frames=24 neuface_claims.whole_lr=5e-5")
    given = parser.parse_args(arguments)
    counts = [f"neuface_claims.{name}={given.sequences}" for name in ("sequences", "whole_sequences")]
    settings = ["evaluation=neuface_claims", f"output={given.out}", *counts, *given.overrides]
    rows = fitted(load(EvaluateConfig, None, settings), given.out)
    table = [line(rows, name, key) for name, key in MEASURED.items()]
    print(tables.markdown(table))
    speed = rules.means(rows, methods.FULL, methods.WHOLE, "face_frames_per_s")
    print(f"\nspeed, top over whole: {speed[0] / speed[1]:.1f} times")
    (given.out / "moving_layers.json").write_text(json.dumps({"table": table, "rows": rows}, indent=1, default=float))


def fitted(config: EvaluateConfig, folder: Path) -> list[rules.Row]:
    """The rows of both methods on every sequence; missing sequences are drawn first."""
    own = config.neuface_claims
    encoder = load_encoder(own.encoder.kind, own.encoder.path, "neuface_claims.encoder.path")
    sources, _ = neuface.synthetic_sources(own, config.head, replace(own.media, crop_size=encoder.crop_size), folder)
    wanted = [source for source in sources if not source.path.exists()]
    call_all(neuface.make, wanted, [1.0] * len(wanted), own.workers, "sequences")
    both = [m for m in methods.all_methods(own, encoder.stages[0]) if m.name in (methods.FULL, methods.WHOLE)]
    jobs = [(source, method) for source in sources for method in both]
    done = call_all(neuface.run_synthetic, jobs, [method.cost for _, method in jobs], own.workers, "fits", "passes")
    return [row for one in done for row in one.rows]


def line(rows: Sequence[rules.Row], name: str, key: str) -> rules.Row:
    """One measure of both methods and their paired difference."""
    top, whole = rules.means(rows, methods.FULL, methods.WHOLE, key)
    lower = rules.compare(*rules.paired(rows, methods.FULL, methods.WHOLE, key))
    interval = f"{lower.low:.3g} to {lower.high:.3g}"
    return {"": name, "top": top, "whole": whole, "top - whole": lower.difference, "95 %": interval, "n": lower.n}


if __name__ == "__main__":
    main()
