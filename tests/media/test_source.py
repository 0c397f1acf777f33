import json
import os
import pickle
from pathlib import Path

import fsspec
import pytest

from neuface_ray.errors import DataError
from neuface_ray.media.source import SourceUri, content_hash, is_remote, local_path, local_uri, open_local, sanitise_uri

SIGNED = "https://user:pass@host.org/a%20b.mp4?X-Amz-Signature=SECRETSIG&part=3&access_token=SECRETTOKEN&sig=x#SECRETFRAGMENT"


def test_sanitised_uris_hold_no_secret() -> None:
    assert sanitise_uri(SIGNED) == "https://host.org/a%20b.mp4?part=3"
    assert sanitise_uri("s3://KEY:SECRET@bucket/x.mp4") == "s3://bucket/x.mp4"
    assert sanitise_uri("/data/user:pass@x/a.mp4") == "/data/user:pass@x/a.mp4"


def test_a_source_uri_shows_nothing_and_opens_everything() -> None:
    uri = SourceUri(SIGNED)
    assert uri.address == SIGNED
    assert SourceUri(uri).address == SIGNED
    for text in (str(uri), repr(uri), f"{uri}", "%s" % uri, json.dumps([uri]), uri + "", "".join([uri])):  # noqa: UP031
        assert "SECRET" not in text
        assert "pass" not in text
    copy = pickle.loads(pickle.dumps(uri))
    assert (copy, copy.address) == (uri, SIGNED)


def test_what_is_remote() -> None:
    assert all(map(is_remote, ("s3://b/k", "gs://b", "https://h/x")))
    assert not any(map(is_remote, ("file:///x", "/x", "a:b", "x y://", "")))


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


def test_content_hash_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert content_hash(str(path)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(b"abcd")
    assert content_hash(str(path)) == "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"
