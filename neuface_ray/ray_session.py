"""Joining the Ray cluster that is there, or starting one on this machine that nobody else can reach."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from neuface_ray.errors import NeufaceError

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
PRIVATE = {
    # Off, Ray takes the loopback address as its address and every one of its servers binds to that alone.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


@dataclass
class RayConfig:
    """Where the work runs: the keys of every ``ray:`` section; a command may add to them."""

    address: str | None = None
    """Address of a running cluster; null takes RAY_ADDRESS (set inside `ray job submit`), else starts Ray on this machine."""
    num_cpus: int | None = None
    """CPUs to count when Ray is started on this machine; null: all, and for training enough for its processes."""


@contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """Ray for the length of the body: the cluster at ``config.address`` or RAY_ADDRESS, the one that this process already
    joined, or else a private one that ends with the body. A private one listens on the loopback interface alone, asks for a
    token that only this process and its children know, has no dashboard and reports no usage.

    Raises:
        NeufaceError: the cluster cannot be reached, Ray does not start, or it fails under way.
    """
    address = config.address or os.environ.get("RAY_ADDRESS")
    _set_environment(private=not address)
    import ray  # not earlier: it reads the environment when it is imported
    import ray.data

    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # Ray Data's log file keeps everything
            handler.setLevel(logging.ERROR)
    joined = ray.is_initialized()
    try:
        if not joined:
            _connect(address, config.num_cpus)
        yield
    except ray.exceptions.RayError as error:
        raise NeufaceError(f"Ray failed: {error}", code="ray") from error
    finally:
        if not joined:
            ray.shutdown()


def _connect(address: str | None, num_cpus: int | None) -> None:
    import ray

    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"join the Ray cluster at {address}" if address else "start Ray on this machine"
        raise NeufaceError(f"cannot {where}: {error}", code="ray") from error


def _set_environment(private: bool) -> None:
    """Ray reads these when it is imported; what the user has set stays."""
    if "ray" in sys.modules:
        return
    wanted = ENVIRONMENT | (PRIVATE if private and "RAY_AUTH_MODE" not in os.environ else {})
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    if private and os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
