import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuface_ray.dataset.privacy import clean_config, clean_uri, scrub


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
def test_clean_uri(uri, clean):
    assert clean_uri(uri) == clean
    assert clean_uri(clean) == clean


@given(st.text(alphabet="abc123-_.~%", min_size=6), st.text(alphabet="xyz/.", max_size=20))
def test_no_password_survives(password, path):
    secret = f"SECRET{password}"
    assert "SECRET" not in scrub(f"cannot open 'https://me:{secret}@host/{path}' (see s3://k:{secret}@b/{path}?t={secret})")


def test_names_in_other_encodings_become_text():
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    assert clean_uri(name) == "caf\\xe9.mp4"
    assert scrub(name).encode()


def test_config_secrets():
    config = {
        "input": "s3://k:s@b/x",
        "aws": {"secret_key": "abc", "region": "eu", "session_token": None},
        "n": [1, "gs://u@b"],
    }
    assert clean_config(config) == {
        "input": "s3://b/x",
        "aws": {"secret_key": "***", "region": "eu", "session_token": None},
        "n": [1, "gs://b"],
    }
