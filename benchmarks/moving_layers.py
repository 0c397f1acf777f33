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
from neuface_ray.evaluation.neuface.criteria import means, paired
from neuface_ray.evaluation.neuface.experiment import draw_missing, run_variants, synthetic_sequences
from neuface_ray.evaluation.neuface.settings import NeufaceEvaluation
from neuface_ray.evaluation.neuface.variants import FULL, WHOLE, all_variants
from neuface_ray.evaluation.run import EvaluateConfig
from neuface_ray.evaluation.tables import Row, markdown
from neuface_ray.methods.encoder.weights import load_encoder
from neuface_ray.metrics.statistics import compare

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
    options = parser.parse_args(arguments)
    counts = [f"neuface_claims.{name}={options.sequences}" for name in ("sequences", "whole_sequences")]
    overrides = ["evaluation=neuface_claims", f"output={options.out}", *counts, *options.overrides]
    config = load(EvaluateConfig, None, overrides)
    rows = fit_both(config.settings, config.head, options.out)
    table = [line(rows, name, key) for name, key in MEASURED.items()]
    print(markdown(table))
    speed = means(rows, FULL, WHOLE, "face_frames_per_s")
    print(f"\nspeed, top over whole: {speed[0] / speed[1]:.1f} times")
    (options.out / "moving_layers.json").write_text(json.dumps({"table": table, "rows": rows}, indent=1, default=float))


def fit_both(settings: NeufaceEvaluation, head: str, folder: Path) -> list[Row]:
    """The rows of both variants on every sequence; missing sequences are drawn first."""
    encoder = load_encoder(settings.encoder.kind, settings.encoder.path, "neuface_claims.encoder.path")
    media = replace(settings.media, crop_size=encoder.crop_size)
    sequences, _ = synthetic_sequences(settings, head, media, folder)
    draw_missing(sequences, settings)
    both = [variant for variant in all_variants(settings, encoder.stages[0]) if variant.name in (FULL, WHOLE)]
    return [row for result in run_variants(sequences, both, settings) for row in result.rows]


def line(rows: Sequence[Row], name: str, key: str) -> Row:
    """One measure of both variants and their paired difference."""
    top, every = means(rows, FULL, WHOLE, key)
    difference = compare(*paired(rows, FULL, WHOLE, key))
    interval = f"{difference.low:.3g} to {difference.high:.3g}"
    return {"": name, "top": top, "whole": every, "top - whole": difference.difference, "95 %": interval, "n": difference.n}


if __name__ == "__main__":
    main()
