"""URIs without credentials, in the form that tells sources apart and the form that is written."""

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuface_ray.uri import SourceUri, content_hash, is_remote, redact_text, redact_uri, without_secrets

SIGNED = "https://user:pass@host.org/a%20b.mp4?X-Amz-Signature=SECRETSIG&part=3&access_token=SECRETTOKEN&sig=x#SECRETFRAGMENT"


def test_what_tells_sources_apart_holds_no_secret() -> None:
    assert without_secrets(SIGNED) == "https://host.org/a%20b.mp4?part=3"
    assert without_secrets("s3://KEY:SECRET@bucket/x.mp4") == "s3://bucket/x.mp4"
    assert without_secrets("/data/user:pass@x/a.mp4") == "/data/user:pass@x/a.mp4"


def test_a_source_uri_shows_nothing_and_opens_everything() -> None:
    uri = SourceUri(SIGNED)
    assert uri.address == SIGNED
    assert SourceUri(uri).address == SIGNED
    for text in (str(uri), repr(uri), f"{uri}", "%s" % uri, json.dumps([uri]), uri + "", "".join([uri])):  # noqa: UP031
        assert "SECRET" not in text
        assert "pass" not in text
    copy = pickle.loads(pickle.dumps(uri))
    assert (copy, copy.address) == (uri, SIGNED)


def test_both_forms_of_a_signed_address_are_written_alike() -> None:
    assert redact_uri(SourceUri(SIGNED)) == redact_uri(SIGNED) == "https://host.org/a%20b.mp4"
    assert redact_text(f"cannot open {SourceUri(SIGNED)}") == "cannot open https://host.org/a%20b.mp4"


def test_what_is_remote() -> None:
    assert all(map(is_remote, ("s3://b/k", "gs://b", "https://h/x")))
    assert not any(map(is_remote, ("file:///x", "/x", "a:b", "x y://", "")))


def test_content_hash_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert content_hash(str(path)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(b"abcd")
    assert content_hash(str(path)) == "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"


@pytest.mark.parametrize(
    ("uri", "clean"),
    [
        ("s3://key:secret@bucket/a@b.mp4", "s3://bucket/a@b.mp4"),
        ("https://host/x.mp4?X-Amz-Signature=1#t", "https://host/x.mp4"),
        ("https://u:p@ss@host:80/x", "https://host:80/x"),
        ("simplecache::s3://k:s@b/x", "simplecache::s3://b/x"),
        ("/data/who?.mp4", "/data/who?.mp4"),
        ("file:///data/a#1.mp4", "file:///data/a#1.mp4"),
        ("relative/ü.mp4", "relative/ü.mp4"),
    ],
)
def test_what_is_written_has_no_query(uri, clean):
    assert redact_uri(uri) == clean
    assert redact_uri(clean) == clean


@given(st.text(alphabet="abc123-_.~%", min_size=6), st.text(alphabet="xyz/.", max_size=20))
def test_no_password_survives(password, path):
    secret = f"SECRET{password}"
    assert "SECRET" not in redact_text(
        f"cannot open 'https://me:{secret}@host/{path}' (see s3://k:{secret}@b/{path}?t={secret})"
    )


def test_names_in_other_encodings_become_text():
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    assert redact_uri(name) == "caf\\xe9.mp4"
    assert redact_text(name).encode()
