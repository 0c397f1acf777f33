"""What the declared dependencies bring with them, and the versions that ``make`` installs."""

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def declared(*without: str) -> list[Requirement]:
    """Requirements of the package and of its extras, but for those named."""
    extras = [needed for name, needed in PROJECT["optional-dependencies"].items() if name not in without]
    return [Requirement(text) for needed in [PROJECT["dependencies"], *extras] for text in needed]


def test_all_installed_opencv_distributions_have_one_version() -> None:
    # They unpack into one folder cv2: with two versions, whichever was unpacked last decides how crops are resampled.
    versions = {found.name: found.version for found in distributions() if found.name.lower().startswith("opencv")}
    assert "opencv-contrib-python" in versions
    assert len(set(versions.values())) == 1, versions


def test_every_dependency_is_bounded_on_both_sides() -> None:
    for required in declared():
        operators = {specifier.operator for specifier in required.specifier}
        assert operators in ({"=="}, {">=", "<"}) or required.name == "neuface-ray", required


def test_constraints_are_versions_that_the_project_allows_and_leave_torch_open() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in lines)
    pinned = {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}
    assert not [name for name in pinned if name.startswith(("torch", "triton", "nvidia", "cuda"))]
    for required in declared("build"):
        if required.name not in ("torch", "neuface-ray"):
            assert required.specifier.contains(pinned[required.name]), required
