"""The books: exit codes, the last line, the table and the progress line."""

from __future__ import annotations

import io
import json

import pytest

from neuface_ray.pipeline.progress import Progress
from neuface_ray.pipeline.summary import Summary
from neuface_ray.types import Segment, View

CLIP = {
    "clip_id": "c",
    "accepted": True,
    "reasons": [],
    "frames": 10,
    "face_frames": 9,
    "nme": 2.0,
    "seconds": {"annotate": 1.5},
}
COMMITTED = {"segment_id": "a", "status": "committed", "source": "a.mp4", "clips": [CLIP, {**CLIP, "nme": 4.0}]}
REJECTED = {
    "segment_id": "b",
    "status": "committed",
    "source": "b.mp4",
    "clips": [{**CLIP, "accepted": False, "reasons": ["high_nme"], "nme": None}],
}
QUARANTINED = {
    "segment_id": "c",
    "status": "quarantined",
    "source": "c.mp4",
    "clips": [],
    "stage": "prepare",
    "error": "truncated",
    "message": "ends early\nmore",
}
FATAL = {
    "segment_id": "d",
    "status": "fatal",
    "source": "d.mp4",
    "clips": [],
    "error": "output",
    "message": "full",
    "usage": False,
}


def summary_of(*rows, planned=4) -> Summary:
    summary = Summary("run", "out", planned, planned)
    for row in rows:
        summary.add(row)
    return summary


def segments(*names: str) -> dict[str, Segment]:
    return {name: Segment(name, name, (View("front", f"{name}.mp4"),), 0, 1, 0, 1) for name in names}


def test_numbers_add_up():
    summary = summary_of(COMMITTED, REJECTED, QUARANTINED)
    assert (summary.settled, summary.clips, summary.accepted) == (3, 3, 2)
    assert (summary.frames, summary.face_frames, summary.seconds["annotate"]) == (30, 27, 4.5)
    table = summary.table()
    assert "2 accepted, 1 rejected (high_nme 1)" in table
    assert "3.00 %" in table
    assert "c.mp4: truncated in prepare: ends early\n" in table


@pytest.mark.parametrize(
    ("rows", "outcomes", "code"),
    [
        ((COMMITTED, REJECTED), {"a": "committed", "b": "committed"}, 0),
        ((COMMITTED, QUARANTINED), {"a": "committed", "b": "committed", "c": "quarantined"}, 3),
        ((COMMITTED,), {"a": "committed", "b": "quarantined"}, 3),
        ((COMMITTED,), {"a": "committed"}, 1),
        ((COMMITTED, FATAL), {"a": "committed", "b": "committed"}, 1),
        ((COMMITTED, {**FATAL, "usage": True}), {"a": "committed", "b": "committed"}, 2),
    ],
)
def test_exit_codes(rows, outcomes, code):
    summary = summary_of(*rows)
    summary.settle(segments("a", "b", *(["c"] if "c" in outcomes else [])), outcomes)
    assert summary.exit_code == code
    assert summary.outcome.startswith(f"exit {code}: ")


def test_an_interrupted_run_says_so_whatever_else_happened():
    summary = summary_of(COMMITTED, QUARANTINED)
    summary.interrupted = True
    assert summary.exit_code == 130


def test_json_is_complete_only_at_the_end():
    summary = summary_of(COMMITTED, QUARANTINED)
    assert json.loads(summary.as_json())["exit_code"] is None
    summary.finished = summary.started + 1
    content = json.loads(summary.as_json())
    assert content["exit_code"] == 3
    assert content["outcome"] == summary.outcome
    assert content["median_nme"] == 3.0
    assert [row["error"] for row in content["quarantined"]] == ["truncated"]


def test_progress_in_a_log_and_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, lines in ((io.StringIO(), 2), (Terminal(), 1)):
        summary = summary_of(COMMITTED, planned=2)
        progress = Progress(summary, stream)
        summary.add(QUARANTINED)
        progress.close()
        text = stream.getvalue()
        assert text.count("\n") == lines
        assert "1/2 segments, 2 clips, 18 face-frames" in text
        assert "left" in text
        assert "2/2 segments" in text
        assert "1 quarantined" in text
