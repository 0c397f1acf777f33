"""URIs without credentials, in the form that tells sources apart and the form that is written."""

import json
import pickle
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuface_ray.uri import SourceUri, content_hash, is_remote, redact_text, redact_uri, uri_identity

SIGNED = "https://user:pass@host.org/a%20b.mp4?X-Amz-Signature=SECRETSIG&part=3&access_token=SECRETTOKEN&sig=x#SECRETFRAGMENT"


def test_what_tells_sources_apart_stays_as_it_is() -> None:
    """Segment ids of existing datasets are hashes over it."""
    for uri in (SIGNED, SourceUri(SIGNED), pickle.loads(pickle.dumps(SourceUri(SIGNED)))):
        assert uri_identity(uri) == "https://host.org/a%20b.mp4?part=3"
    assert uri_identity("s3://KEY:SECRET@bucket/x.mp4") == "s3://bucket/x.mp4"
    assert uri_identity(SourceUri("https://host/x.mp4?pwd=1&part=2")) == "https://host/x.mp4?pwd=1&part=2"
    assert uri_identity("/data/user:pass@x/a.mp4") == "/data/user:pass@x/a.mp4"


def test_a_source_uri_shows_nothing_and_opens_everything() -> None:
    uri = SourceUri(SIGNED)
    assert uri.address == SIGNED
    assert SourceUri(uri).address == SIGNED
    for text in (str(uri), repr(uri), f"{uri}", "%s" % uri, json.dumps([uri]), uri + "", "".join([uri])):  # noqa: UP031
        assert "SECRET" not in text
        assert "pass" not in text
    copy = pickle.loads(pickle.dumps(uri))
    assert (copy, copy.address) == (uri, SIGNED)


def test_addresses_that_look_alike_are_told_apart() -> None:
    first, second, signed = (SourceUri(f"https://h/x.mp4?part={part}") for part in ("1", "2", "1&sig=abc"))
    assert len({first, second, signed}) == 2
    assert first == signed != second
    assert str(first) == str(second) == "https://h/x.mp4" == first


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
        ("zip://inner.mp4::s3://k:s/t@b/x.zip", "zip://inner.mp4::s3://b/x.zip"),
        ("s3://key:se/cr#et?@bucket/x.mp4", "s3://bucket/x.mp4"),
        ("s3://key:s@e/c@bucket/x.mp4", "s3://bucket/x.mp4"),
        ("s3://key:s/e@bucket", "s3://bucket"),
        ("s3://key:secret/without/host", "s3://***"),
        ("https://host/x.mp4;sig=1", "https://host/x.mp4"),
        ("https://host/x.mp4?next=https://other/y&code=1", "https://host/x.mp4"),
        ("http://[::1]:8080/a@b/x.mp4", "http://[::1]:8080/a@b/x.mp4"),
        ("http://host:9000/who@home/x.mp4", "http://host:9000/who@home/x.mp4"),
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


def marks(alphabet: str) -> st.SearchStrategy[tuple[str, str]]:
    return st.tuples(st.text(alphabet, max_size=12), st.text(alphabet, max_size=12))


@given(st.one_of(marks("/#?@:;=%&a"), marks("/#?;'\"<>| ")), st.sampled_from(["", "/", "/x.mp4", "/a/b/c"]))
def test_no_password_survives_whatever_it_holds(between, path):
    secret = "SECRET{}PRIVATE{}HIDDEN".format(*between)
    shown = redact_text(f"cannot open s3://KEY:{secret}@bucket{path} (see https://host/y.mp4)")
    assert not [word for word in ("SECRET", "PRIVATE", "HIDDEN") if word in shown]
    assert shown.endswith("(see https://host/y.mp4)")


@pytest.mark.parametrize("name", ["pwd", "code", "jwt", "pass", "Policy", "X-Amz-Credential", "part"])
@pytest.mark.parametrize("mark", ["?", "?a=b&", "?a=b;", ";", "#"])
def test_no_query_is_shown(name, mark):
    address = f"https://host/x.mp4{mark}{name}=SECRET"
    for text in (redact_text(f"<{address}>"), str(SourceUri(address)), f"{SourceUri(address)}", redact_uri(address)):
        assert "SECRET" not in text
        assert "https://host/x.mp4" in text


@pytest.mark.parametrize("part", ["a", "a:", "::", "a://", "a://b:", "/", "@", "s3://k:", "s3://a@", ";a", "a.", "'"])
def test_redacting_takes_time_in_proportion_to_the_length(part):
    text = part * (80_000 // len(part))
    started = time.process_time()
    redact_text(text)
    redact_uri(text)
    assert time.process_time() - started < 2


def test_names_in_other_encodings_become_text():
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    assert redact_uri(name) == "caf\\xe9.mp4"
    assert redact_text(name).encode()
