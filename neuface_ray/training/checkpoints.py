"""Checkpoints that tell whether they are whole, and small files of a training that are never half-written."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import torch

from neuface_ray.errors import NeufaceError

STATE, CHECKSUM = "state.pt", "state.sha256"
_LOG = logging.getLogger(__name__)


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint's content and its checksum, durably."""
    torch.save(state, folder / STATE)
    _sync(folder / STATE)
    write_text(folder / CHECKSUM, _checksum(folder / STATE))


def read_state(folder: Path, recipe: str) -> dict[str, Any]:
    """Read the content of a checkpoint.

    Raises:
        NeufaceError: it is damaged, or of another recipe.
    """
    path = folder / STATE
    try:
        expected = (folder / CHECKSUM).read_text() if (folder / CHECKSUM).is_file() else None  # earlier versions wrote none
        if expected is not None and expected != _checksum(path):
            raise NeufaceError(f"{path} is damaged: its checksum differs", "damaged_checkpoint")
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["recipe"]
    except NeufaceError:
        raise
    except Exception as error:  # torch reports a damaged file by many kinds of errors
        reason = str(error).partition("\n")[0]
        raise NeufaceError(f"{path} is damaged: {reason}", "damaged_checkpoint") from error
    if found != recipe:
        raise NeufaceError(f"{folder} is a checkpoint of recipe {found}, not of {recipe}")
    return state


def newest_state(newest: Path, recipe: str) -> dict[str, Any]:
    """Read the checkpoint ``newest`` or, if it is damaged, the newest whole one of those that are kept beside it.

    Raises:
        NeufaceError: all of them are damaged, or one is of another recipe.
    """
    older = sorted((path for path in newest.parent.glob("checkpoint_*") if path.name < newest.name), reverse=True)
    for folder in (newest, *older):
        try:
            return read_state(folder, recipe)
        except NeufaceError as error:
            if error.code != "damaged_checkpoint":
                raise
            _LOG.warning("%s; going on from the one before", error)
    raise NeufaceError(
        f"no checkpoint in {newest.parent} can be read; remove that folder to begin again, or choose another output"
    )


def write_text(path: Path, text: str) -> None:
    """Write a file so that it holds the old text or the new one, whatever happens."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    _sync(new)
    new.replace(path)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
