"""Versions that are recorded with everything that is made, so that a change in results can be traced to its cause."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

__version__ = "0.1.0"

GIT_TIMEOUT_S = 10.0
LIBRARIES = (
    "torch",
    "mediapipe",
    "ray",
    "opencv-python",
    "opencv-contrib-python",
    "opencv-python-headless",
    "opencv-contrib-python-headless",
    "numpy",
    "av",
)
"""Distributions that results may depend on."""


@cache
def code_version() -> str:
    """``__version__``, and when the package runs from a git checkout its commit too: ``0.1.0+1fe9f3e8b38d``, with ``.dirty`` at
    the end if tracked files were changed. Without git, or if git refuses, the version alone."""
    commit = _commit(Path(__file__).resolve().parents[1])
    return f"{__version__}+{commit}" if commit else __version__


def _commit(root: Path) -> str | None:
    if not (root / ".git").exists():  # an installed package must not take the commit of a checkout that lies around it
        return None
    # A hook or a rebase sets GIT_DIR and the like, which would name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=.dirty"]
    try:
        answer = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


@cache
def library_versions() -> dict[str, str]:
    """Versions of the installed ``LIBRARIES``, read without importing them."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
