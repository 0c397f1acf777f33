"""Packages that only some uses need: which extra brings each, and errors that say so."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from neuface_ray.errors import UsageError

EXTRA_OF = {
    "adlfs": "az",
    "anny": "build",
    "decord": "decord",
    "face_alignment": "fan",
    "gcsfs": "gcs",
    "matplotlib": "evaluate",
    "s3fs": "s3",
}
"""The extra of ``pyproject.toml`` that brings a module."""

_MODULE_OF_SCHEME = {
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "gcs": "gcsfs",
    "gs": "gcsfs",
    "s3": "s3fs",
    "s3a": "s3fs",
}


def load_extra(module: str, purpose: str) -> ModuleType:
    """Import a module of an extra.

    Args:
        module: dotted name; its first part is a key of ``EXTRA_OF``.
        purpose: what needs it, the beginning of the message when it is missing.

    Raises:
        UsageError: it is not installed; names the extra.
    """
    package = module.partition(".")[0]
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise  # the package is there and lacks something of its own
        extra = EXTRA_OF[package]
        message = f'{purpose} needs the package {package}, which is not installed: pip install "neuface-ray[{extra}]"'
        raise UsageError(message) from error
    return import_module(module)


def check_scheme(uri: str) -> None:
    """Raise UsageError, naming the extra, if the package that reaches ``s3://``, ``gs://``, ``az://`` ... is not installed."""
    scheme = uri.partition("://")[0].lower()
    if scheme in _MODULE_OF_SCHEME:
        load_extra(_MODULE_OF_SCHEME[scheme], f"{scheme}://")
