"""What a user reads when a package of an extra is missing; ``None`` in ``sys.modules`` is how Python bars an import."""

import sys
import tomllib
from pathlib import Path

import pytest

from neuface_ray.dataset.storage import open_store
from neuface_ray.errors import UsageError
from neuface_ray.evaluation.charts import subplots
from neuface_ray.extras import EXTRA_OF, load_extra
from neuface_ray.heads.build.anny_head import load_anny_head
from neuface_ray.media import MediaConfig, plan
from neuface_ray.media.fan import Fan
from neuface_ray.media.source import open_local

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_every_extra_that_an_error_names_exists() -> None:
    declared = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    assert set(EXTRA_OF.values()) == declared.keys() - {"test"}


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [
        ("s3://bucket/a.mp4", "s3fs", "s3"),
        ("gs://bucket/a.mp4", "gcsfs", "gcs"),
        ("gcs://bucket/a.mp4", "gcsfs", "gcs"),
        ("az://container/a.mp4", "adlfs", "az"),
        ("abfss://container@account.dfs.core.windows.net/a.mp4", "adlfs", "az"),
    ],
)
def test_a_remote_place_names_the_extra_that_reaches_it(
    monkeypatch: pytest.MonkeyPatch, uri: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    expected = rf'{package}.*pip install "neuface-ray\[{extra}\]"'
    with pytest.raises(UsageError, match=expected), open_local(uri, 10):
        pass
    with pytest.raises(UsageError, match=expected):
        list(plan(uri.removesuffix("a.mp4"), MediaConfig()))
    with pytest.raises(UsageError, match=expected):
        open_store(uri.removesuffix("/a.mp4")).open_for_writing()


def test_charts_the_detector_and_the_head_name_their_extras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for package in ("matplotlib", "face_alignment", "anny"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=r"neuface-ray\[evaluate\]"):
        subplots()
    with pytest.raises(UsageError, match=r"neuface-ray\[build\]"):
        load_anny_head()
    (tmp_path / "weights").touch()
    with pytest.raises(UsageError, match=r"media.detector=fan.*neuface-ray\[fan\]"):
        Fan(str(tmp_path / "weights"))


def test_a_package_that_is_there_but_broken_is_not_called_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "anny.py").write_text("import a_package_that_nobody_has")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "anny", raising=False)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_nobody_has"):
        load_extra("anny", "this test")
