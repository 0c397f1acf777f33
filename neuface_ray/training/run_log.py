"""What a training run writes while it runs: a log as CSV and JSON lines, TensorBoard events, and a line of progress."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

from neuface_ray.duration import format_duration

LOG, TABLE, EVENTS = "log.jsonl", "log.csv", "tensorboard"


class RunLog:
    """The log of one run in ``folder``; lines of steps after ``step`` (of an attempt that died) are taken back.

    A row has the step, its time and any numbers; the CSV table has the columns of all rows and is rewritten as a whole.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool):
        self.folder = folder
        self.rows = [row for row in read_log(folder) if row["step"] <= step]
        _replace(folder / LOG, "".join(json.dumps(row) + "\n" for row in self.rows))
        self.events = None
        if tensorboard:
            from tensorboardX import SummaryWriter

            self.events = SummaryWriter(str(folder / EVENTS), purge_step=step + 1)

    def add(self, step: int, numbers: dict[str, Any]) -> None:
        """Writes one row everywhere."""
        row = {"step": step, "time_s": round(time.time(), 1)} | {k: _short(v) for k, v in numbers.items()}
        self.rows.append(row)
        with (self.folder / LOG).open("a") as file:
            file.write(json.dumps(row) + "\n")
        columns = list(dict.fromkeys(name for known in self.rows for name in known))
        with (self.folder / (TABLE + ".new")).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        (self.folder / (TABLE + ".new")).replace(self.folder / TABLE)
        if self.events is not None:
            for name, value in numbers.items():
                self.events.add_scalar(name, value, step)
            self.events.flush()

    def close(self) -> None:
        if self.events is not None:
            self.events.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of a log, of which a killed writer may have left the last line unfinished."""
    path, rows = folder / LOG, []
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


def progress_line(row: dict[str, Any], steps: int) -> str:
    """``step 1200/20000  6 %  85.3 samples/s  loss 0.0412  3 h 12 min to go`` from a row of the log."""
    parts = [f"step {row['step']}/{steps}", f"{100 * row['step'] / steps:.0f} %"]
    if "samples_per_s" in row:
        parts.append(f"{row['samples_per_s']:.1f} samples/s")
    parts += [f"{name} {row[name]:.4g}" for name in row if name == "loss" or name.startswith("validation/")]
    if "eta_s" in row:
        parts.append(f"{format_duration(row['eta_s'])} to go")
    return "  ".join(parts)


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)
