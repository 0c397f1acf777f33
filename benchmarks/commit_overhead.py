"""What the commit protocol costs: seconds of a worker and of a publisher for each clip, and their share of one second of work.

    python -m benchmarks.commit_overhead [--clips 400] [--frames 30] [--output DIR] [--out overhead.json]

Writes clips of realistic size (478 landmarks, one view) exactly as a worker does: asks whether the segment is done, counts and
begins both attempts, commits with all fsyncs, tidies up; then publishes everything. Beside it, what is no cost of the protocol:
building the rows, and writing them to plain Parquet files without any promise. Needs the test dependencies.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

import tests.dataset.made as samples
from neuface_ray.dataset import Output, clip_rows, finalise

CLIP_SECONDS = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--output", help="folder on the file system to measure; default: a temporary one")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    samples.LANDMARKS, samples.SHAPE, samples.EXPRESSION = 478, 100, 52
    with tempfile.TemporaryDirectory(dir=options.output) as folder:
        figures = measure(Path(folder), options.clips, options.frames)
    for name, value in figures.items():
        print(f"{name:<28} {value:.4f}" if isinstance(value, float) else f"{name:<28} {value}")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2))


def measure(folder: Path, clips: int, frames: int) -> dict[str, float | int]:
    """Mean seconds for each clip, and the share of the protocol (worker and publisher) in a run of ``CLIP_SECONDS`` a clip."""
    output = Output.open(str(folder / "out"), samples.provenance())
    (folder / "plain").mkdir()
    worker, rows, plain = [], [], []
    for number in range(clips):
        segment = samples.make_segment(number, f"seq{number % 50}", views=1, length=frames)
        records = samples.make_clip(segment)
        started = time.perf_counter()
        tables = clip_rows(*records, output.provenance)
        rows.append(time.perf_counter() - started)
        started = time.perf_counter()
        for stage in ("prepare", "annotate"):
            assert output.attempts(segment.segment_id, stage) == 0
            output.begin_attempt(segment.segment_id, stage)
        assert not output.is_done(segment.segment_id)
        assert output.commit(segment, [tables])
        worker.append(time.perf_counter() - started)
        started = time.perf_counter()
        for name, table in tables.items():
            pq.write_table(table, folder / "plain" / f"{number}.{name}.parquet")
        plain.append(time.perf_counter() - started)
    staged = sum(path.stat().st_size for path in (folder / "out" / "_staged").rglob("*.committed"))
    started = time.perf_counter()
    finalise(output.store)
    published = (time.perf_counter() - started) / clips
    cost = statistics.mean(worker) + published
    return {
        "clips": clips,
        "frames": frames,
        "staged_bytes_per_clip": staged // clips,
        "rows_s": statistics.mean(rows),
        "worker_median_s": statistics.median(worker),
        "worker_mean_s": statistics.mean(worker),
        "publish_s": published,
        "plain_parquet_s": statistics.mean(plain),
        "share_percent": 100 * cost / (CLIP_SECONDS + cost),
    }


if __name__ == "__main__":
    main()
