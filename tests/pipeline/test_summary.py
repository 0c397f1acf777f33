"""Counts of a run: exit codes, the last line, the table and the progress line."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from neuface_ray.pipeline.progress import AnnotationProgress
from neuface_ray.pipeline.summary import AnnotationSummary
from neuface_ray.pipeline.work import ClipResult, Failure, SegmentResult
from neuface_ray.types import Segment, View

CLIP = ClipResult("c", accepted=True, reasons=(), frames=10, face_frames=9, nme=2.0, seconds={"annotate": 1.5})
COMMITTED = SegmentResult("a", "committed", "a.mp4", (CLIP, replace(CLIP, nme=4.0)))
REJECTED = SegmentResult("b", "committed", "b.mp4", (replace(CLIP, accepted=False, reasons=("high_nme",), nme=None),))
QUARANTINED = SegmentResult("c", "quarantined", "c.mp4", failure=Failure("truncated", "ends early\nmore", "prepare"))
FATAL = SegmentResult("d", "fatal", "d.mp4", failure=Failure("output", "full"))
WRONG_USAGE = SegmentResult("d", "fatal", "d.mp4", failure=Failure("usage", "no such file", usage=True))


def summary_of(*results: SegmentResult, planned: int = 4) -> AnnotationSummary:
    summary = AnnotationSummary("run", "out", planned, planned)
    for result in results:
        summary.add(result)
    return summary


def segments(*names: str) -> dict[str, Segment]:
    return {name: Segment(name, name, (View("front", f"{name}.mp4"),), 0, 1, 0, 1) for name in names}


def test_faces_without_a_clip_are_told_with_the_key_that_keeps_them():
    assert "left out" not in summary_of(COMMITTED, REJECTED).table()
    summary = summary_of(replace(COMMITTED, faces_left_out=4), replace(REJECTED, faces_left_out=1))
    (line,) = [line for line in summary.table().splitlines() if "media.max_faces" in line]
    assert line.startswith("left out     5 faces")
    assert json.loads(summary.as_json())["faces_left_out"] == 5


def test_numbers_add_up():
    summary = summary_of(COMMITTED, REJECTED, QUARANTINED)
    assert (summary.done, summary.clips, summary.accepted) == (3, 3, 2)
    assert (summary.frames, summary.face_frames, summary.seconds["annotate"]) == (30, 27, 4.5)
    table = summary.table()
    assert "2 accepted, 1 rejected (high_nme 1)" in table
    assert "3.00 %" in table
    assert "c.mp4: truncated in prepare: ends early\n" in table


@pytest.mark.parametrize(
    ("results", "outcomes", "code"),
    [
        ((COMMITTED, REJECTED), {"a": "committed", "b": "committed"}, 0),
        ((COMMITTED, QUARANTINED), {"a": "committed", "b": "committed", "c": "quarantined"}, 3),
        ((COMMITTED,), {"a": "committed", "b": "quarantined"}, 3),
        ((COMMITTED,), {"a": "committed"}, 1),
        ((COMMITTED, FATAL), {"a": "committed", "b": "committed"}, 1),
        ((COMMITTED, WRONG_USAGE), {"a": "committed", "b": "committed"}, 2),
    ],
)
def test_exit_codes(results, outcomes, code):
    summary = summary_of(*results)
    summary.reconcile(segments("a", "b", *(["c"] if "c" in outcomes else [])), outcomes)
    assert summary.exit_code == code
    assert summary.conclusion.startswith(f"exit {code}: ")


def test_files_that_are_left_out_are_listed_with_their_reasons():
    summary = AnnotationSummary("run", "out", 1, 1)
    assert "left out" not in summary.table()
    summary.left_out = {f"{k}.txt": "neither a video nor a picture" for k in range(25)}
    assert "left out     25 of the input's files" in summary.table()
    assert "  3.txt: neither a video nor a picture" in summary.table()
    assert "and 5 more; see run.json" in summary.table()
    left_out = json.loads(summary.as_json())["left_out"]
    assert {each["source"]: each["reason"] for each in left_out} == summary.left_out


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
    assert content["outcome"] == summary.conclusion
    assert content["median_nme"] == 3.0
    assert [row["error"] for row in content["quarantined"]] == ["truncated"]


def test_progress_in_a_log_and_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, lines in ((io.StringIO(), 2), (Terminal(), 1)):
        summary = summary_of(COMMITTED, planned=2)
        progress = AnnotationProgress(summary, stream)
        summary.add(QUARANTINED)
        progress.close()
        text = stream.getvalue()
        assert text.count("\n") == lines
        assert "1/2 segments, 2 clips, 18 face-frames" in text
        assert "left" in text
        assert "2/2 segments" in text
        assert "1 quarantined" in text


def test_neither_credentials_nor_commands_reach_the_screen_or_the_file():
    address, name = "s3://KEY:SEC/RET@bucket/out?sig=TOKEN", "\x1b]0;owned\x07\n  all is well"
    failure = Failure("truncated", f"{name}: ends early at {address}", "prepare")
    summary = AnnotationSummary("run", address, 2, 2)
    summary.add(SegmentResult("c", "quarantined", name, failure=failure))
    summary.quarantined_before, summary.missing, summary.failure = [name], [name], f"cannot write {address}"
    summary.finished = summary.started + 1
    texts = (summary.table(), summary.conclusion, summary.as_json().decode())
    for text in texts:
        assert not [secret for secret in ("KEY", "SEC/", "RET@", "TOKEN", "\x1b", "\x07", "\n  all is well") if secret in text]
    assert all("s3://bucket/out" in text for text in texts)
    assert r"\x1b]0;owned\x07\n  all is well: truncated in prepare: ends early" in texts[0]
