from neuface_ray.dataset.privacy import clean_config


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
