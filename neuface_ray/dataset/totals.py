"""Counts over a whole dataset."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

TOTALS_COLUMNS = {
    "segments": ("outcome",),
    "clips": ("status", "reasons", "n_frames", "n_views", "fps", "person", "sequence_id"),
    "quarantine": ("error",),
}
"""What ``count_totals`` reads of each table."""


def count_totals(segments: pa.Table, clips: pa.Table, quarantine: pa.Table) -> dict[str, Any]:
    """Segments by outcome, clips by the gate's decision, frames, hours of views, reasons; of tables with ``TOTALS_COLUMNS``."""
    outcomes = Counter(segments["outcome"].to_pylist())
    rows = clips.to_pylist()
    seconds = [clip["n_frames"] * clip["n_views"] / clip["fps"] for clip in rows if clip["fps"]]
    return {
        "segments": dict(sorted(outcomes.items())),
        "clips": len(rows),
        "clips_accepted": sum(clip["status"] == "accepted" for clip in rows),
        "clips_rejected": sum(clip["status"] == "rejected" for clip in rows),
        "rejected_for": dict(
            Counter(r for clip in rows if clip["status"] == "rejected" for r in clip["reasons"]).most_common()
        ),
        "frames": sum(clip["n_frames"] * clip["n_views"] for clip in rows),
        "hours": round(sum(seconds) / 3600, 4),
        "quarantined_for": dict(Counter(quarantine["error"].to_pylist()).most_common()),
        "persons": len({clip["person"] for clip in rows if clip["person"]}),
        "sequences": len({clip["sequence_id"] for clip in rows}),
    }
