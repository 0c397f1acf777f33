import os
from pathlib import Path

import fsspec
import pytest

from neuface_ray.errors import DataError
from neuface_ray.media.source import open_local
from neuface_ray.uri import SourceUri, local_path, local_uri


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 %41\n.mp4")
    path = os.path.join(tmp_path, name)
    Path(path).write_bytes(b"x")
    uri = local_uri(path)
    uri.encode("utf-8")
    assert local_path(uri) == path
    assert local_uri(os.path.join(tmp_path, "plain %41.mp4")) == os.path.join(tmp_path, "plain %41.mp4")
    with open_local(uri, 10) as opened:
        assert Path(opened).read_bytes() == b"x"


def test_reasons(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "big.mp4").write_bytes(bytes(100))
    expected = {"empty": "empty", "folder": "not_a_file", "dangling": "not_found", "absent": "not_found", "big": "too_large"}
    for name, code in (expected | {"loop": "unreachable", "pipe": "not_a_file"}).items():
        with pytest.raises(DataError) as error, open_local(str(tmp_path / f"{name}.mp4"), 50):
            pass
        assert error.value.code == code
        assert f"{name}.mp4" in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(DataError) as error, open_local(str(path), 50):
        pass
    assert error.value.code == "permission"


def test_remote_files_come_and_go() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/box/a.bin", b"0123456789")
    with open_local("memory://box/a.bin", 10) as path:
        assert Path(path).read_bytes() == b"0123456789"
    assert not os.path.exists(path)
    refused = [("memory://box/a.bin", "too_large"), ("memory://box/b.bin", "not_found"), ("xyz://a", "unreachable")]
    for uri, code in refused:
        with pytest.raises(DataError) as error, open_local(uri, 9):
            pass
        assert error.value.code == code


def test_transport_errors_do_not_tell_secrets() -> None:
    with pytest.raises(DataError) as error, open_local(SourceUri("nosuch://user:SECRET@host/a?token=SECRET"), 9):
        pass
    assert "SECRET" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
