"""Errors that a user can act on, named after who must act."""

from __future__ import annotations


class NeufaceError(Exception):
    """Base of all errors raised on purpose; ``code`` is a short stable reason used in quarantine rows and summaries."""

    code = "error"

    def __init__(self, message: str, code: str | None = None):
        super().__init__(message)
        if code is not None:
            self.code = code


class UsageError(NeufaceError):
    """The command, configuration or input path is wrong; nothing was started (exit code 2)."""

    code = "usage"


class DataError(NeufaceError):
    """This piece of input cannot be processed, and trying again will not help; it goes to quarantine."""

    code = "bad_data"


class ModelFileError(UsageError):
    """A model file is missing, refused or does not match; says what it is, where it is obtained and which key names it."""

    code = "model_file"
