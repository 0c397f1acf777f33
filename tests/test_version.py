"""The recorded version: with the commit in a checkout, alone where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import neuface_ray
from neuface_ray import version


def recorded(root: Path, **environment: str) -> str:
    """What a package that lies in ``root`` records."""
    code = "from package.version import code_version; print(code_version())"
    variables = os.environ | {"PYTHONPATH": str(root)} | environment
    answer = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "package").mkdir()
    shutil.copy(version.__file__, tmp_path / "package" / "version.py")
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / ".gitignore").write_text("__pycache__\n")
    return tmp_path


def test_without_a_checkout_the_version_stands_alone(root):
    assert recorded(root) == neuface_ray.__version__


def test_in_a_checkout_the_commit_and_changes_are_named(root):
    git(root, "init", "-q")
    assert recorded(root) == neuface_ray.__version__  # nothing has been committed
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "all")
    commit = git(root, "rev-parse", "HEAD")[:12]
    assert recorded(root) == f"{neuface_ray.__version__}+{commit}"
    assert recorded(root, GIT_DIR="/nowhere") == f"{neuface_ray.__version__}+{commit}"
    assert recorded(root, PATH="/nowhere") == neuface_ray.__version__
    (root / "package" / "__init__.py").write_text("changed = True\n")
    assert recorded(root) == f"{neuface_ray.__version__}+{commit}.dirty"


def test_an_installed_package_does_not_take_the_commit_around_it(root):
    git(root.parent, "init", "-q", str(root.parent))
    assert recorded(root) == neuface_ray.__version__
