"""Joining the Ray cluster that is there, or starting one on this machine that nobody else can reach.

Ray's sockets lie in its temporary folder, and the path of a socket may have 107 characters. Where the system's temporary folder
is too long for that, a short one is used, which is this user's alone and removed at the end.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.machine import usable_cpus
from neuface_ray.temporary import process_folder

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
INTERFACES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
PRIVATE = {
    # Off, Ray takes the loopback address as its address and every one of its servers binds to that alone.
    INTERFACES: "0",
    "RAY_AUTH_MODE": "token",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
LONGEST_FOLDER = 107 - len("/session_2026-11-25_17-22-21_123456_4194304/sockets/plasma_store")
SHORT_FOLDER = "/tmp"


@dataclass
class RayConfig:
    """Where the work runs: the keys of every ``ray:`` section; a command may add to them."""

    address: str | None = None
    """Address of a running cluster; null takes RAY_ADDRESS (set inside `ray job submit`), else starts Ray on this machine."""
    num_cpus: int | None = None
    """CPUs to count when Ray is started on this machine; null: all that this process may use (affinity, container), and for
    training enough for its processes."""


@contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """Ray for the length of the body: the cluster at ``config.address`` or RAY_ADDRESS, the one that this process already
    joined, or else a private one that ends with the body. A private one listens on the loopback interface alone, asks for a
    token that only this process and its children know, has no dashboard and reports no usage.

    Raises:
        UsageError: a private one cannot be started: Ray was imported before and would listen on every interface, or its folder
            has too long a name. NeufaceError: the cluster cannot be reached, Ray does not start, or it fails under way.
    """
    address = config.address or os.environ.get("RAY_ADDRESS")
    _set_environment(private=not address)
    import ray  # not earlier: it reads the environment when it is imported
    import ray.data

    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # Ray Data's log file keeps everything
            handler.setLevel(logging.ERROR)
    joined = ray.is_initialized()
    if not joined and not address:
        _check_private()
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
            cpus, folder = num_cpus or usable_cpus(), _folder()
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, _temp_dir=folder, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"join the Ray cluster at {address}" if address else "start Ray on this machine"
        raise NeufaceError(f"cannot {where}: {error}", code="ray") from error


def _check_private() -> None:
    """Raises UsageError if Ray, which decides this when it is imported, would let other machines in without being told to."""
    from ray._private import ray_constants

    wanted = os.environ.get(INTERFACES, "0") != "0"  # by the user
    if (ray_constants.ENABLE_RAY_CLUSTER and not wanted) or "RAY_AUTH_MODE" not in os.environ:
        settings = " ".join(f"{name}={value}" for name, value in PRIVATE.items())
        raise UsageError(
            "ray was imported before this run, and would now listen on every network interface. Begin the run before "
            f"`import ray`, or set {settings} before Python starts, or join a cluster (ray.address=..., or ray.init() first)"
        )


def _folder() -> str:
    """Where Ray keeps sockets, logs and objects: as it chooses, or a short private folder where sockets would have no room."""
    named, chosen = "RAY_TMPDIR" in os.environ, os.path.join(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray")
    if len(os.fsencode(os.path.abspath(chosen))) <= LONGEST_FOLDER:
        return os.path.abspath(chosen)
    if not named and os.access(SHORT_FOLDER, os.W_OK | os.X_OK):
        return process_folder(SHORT_FOLDER)
    raise UsageError(
        f"{chosen} is too long a name for Ray, whose sockets lie below it: set RAY_TMPDIR to a folder whose path has at most "
        f"{LONGEST_FOLDER - len('/ray')} characters"
    )


def _set_environment(private: bool) -> None:
    """Ray reads these when it is imported; what the user has set stays."""
    if "ray" in sys.modules:
        return
    wanted = ENVIRONMENT | (PRIVATE if private and "RAY_AUTH_MODE" not in os.environ else {})
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    if private and os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
