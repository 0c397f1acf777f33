"""However a run ends, ``run.json`` says so, and its temporary data are gone."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neuface_ray import cli
from neuface_ray.errors import NeufaceError
from neuface_ray.pipeline import annotate
from tests.conftest import FAST_FIT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "s3://KEY:SEC/RET@bucket/x"), 1),
        (NeufaceError("Ray failed"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
@pytest.mark.parametrize("place", ["ray_session", "finalise"])
def test_a_run_that_failed_says_so(
    error: BaseException, code: int, place: str, tiny_video: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """Ray's own disk is full, or the dataset's fills up at the end."""

    @contextmanager
    def session(config: object) -> Iterator[None]:
        raise error
        yield

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(annotate, place, session if place == "ray_session" else refuse)
    if place == "finalise":
        monkeypatch.setattr(annotate, "annotate_all", lambda *_: None)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    output = tmp_path / "out"
    assert cli.annotate([f"input={tiny_video}", f"output={output}", *FAST_FIT]) == code
    run = json.loads((output / "run.json").read_text())
    assert (run["exit_code"], run["finished"] is None) == (code, False)
    assert run["outcome"].startswith(f"exit {code}: ")
    assert "under way" not in run["outcome"]
    if isinstance(error, OSError):
        assert "No space left" in run["outcome"]
        assert "No space left" in run["failure"]
    shown = capsys.readouterr()
    assert "KEY" not in f"{run}{shown.out}{shown.err}"
    assert os.listdir(tmp_path / "tmp") == []
