"""An S3-compatible server in this process, undisturbed or with faults."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Faulty:
    """Answers 503 before or 500 after doing what was asked, at the given rate; a lost answer is the nastier of the two.

    ``conflicts`` is how many of the next conditional puts are refused as S3 does when it has not decided on another one.
    """

    def __init__(self, application):
        self.application, self.rate, self.dice, self.faults = application, 0.0, random.Random(0), 0
        self.environment: dict[str, str] = {}
        self.conflicts, self._one_at_a_time = 0, threading.Lock()

    def __call__(self, environ, start_response):
        if environ.get("HTTP_IF_NONE_MATCH") == "*":
            with self._one_at_a_time:  # moto looks whether the key is there, and then writes
                if self.conflicts:
                    self.conflicts -= 1
                    start_response("409 Conflict", [("Content-Type", "application/xml")])
                    return [b"<Error><Code>ConditionalRequestConflict</Code><Message>try again</Message></Error>"]
                return self._answer(environ, start_response)
        return self._answer(environ, start_response)

    def _answer(self, environ, start_response):
        if self.dice.random() >= self.rate:
            return self.application(environ, start_response)
        self.faults += 1
        lost = self.dice.random() < 0.5
        if lost:
            b"".join(self.application(environ, lambda *args, **kwargs: None))
        start_response("500 Internal Server Error" if lost else "503 Slow Down", [("Content-Length", "0")])
        return [b""]


@contextmanager
def serve_s3(bucket: str) -> Iterator[Faulty]:
    """A server with one bucket; the environment of this process and of its children points to it."""
    import boto3
    import s3fs
    from moto import server as moto_server
    from werkzeug import serving

    application = Faulty(moto_server.DomainDispatcherApplication(moto_server.create_backend_app))
    server = serving.make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    application.environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in application.environment.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # cached ones would still speak to the server of an earlier test
        boto3.client("s3").create_bucket(Bucket=bucket)
        yield application
        s3fs.S3FileSystem.clear_instance_cache()
    server.shutdown()
    thread.join()
