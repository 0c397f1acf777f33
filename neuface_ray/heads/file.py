"""Reads and writes head models as one safetensors file, the format of the packaged open head."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from neuface_ray.errors import ModelFileError
from neuface_ray.heads.model import HeadModel, check_arrays


def load_open_head(path: str | Path | None = None) -> HeadModel:
    """The packaged open head, or another file of the same format.

    Raises:
        ModelFileError: the file is missing, not a safetensors head model, or its arrays do not fit each other.
    """
    path = Path(str(files("neuface_ray") / "assets" / "open_head.safetensors")) if path is None else Path(path)
    if not path.is_file():
        raise ModelFileError(f"head model {path} does not exist; the key `head` names it (the packaged one is `open_head`)")
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads((file.metadata() or {})["head"])
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        names = about["expression_names"]
        check_arrays(arrays, names)
        return HeadModel(_at_full_precision(arrays), about["name"], about["version"], names, about["expression_bounded"])
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(f"{path} is not a head model in this project's safetensors format: {error}") from error


def save_head(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    name: str,
    version: str,
    expression_names: tuple[str, ...],
    expression_bounded: bool,
    notes: Mapping[str, Any],
) -> None:
    """Writes a head model: bases in float16, other numbers in float32, indices in int32; ``notes`` (licence, how it was made)
    go into the header.

    Bases are displacements of millimetres, for which float16 is exact to a hundredth of a millimetre; the template is not.
    """
    about = {
        "name": name,
        "version": version,
        "expression_names": list(expression_names),
        "expression_bounded": expression_bounded,
        **notes,
    }
    # One entry, because safetensors writes several in no fixed order.
    metadata = {"head": json.dumps(about, sort_keys=True)}
    save_file({key: _compact(key, value) for key, value in arrays.items()}, str(path), metadata=metadata)


def _compact(key: str, value: np.ndarray) -> np.ndarray:
    if np.issubdtype(value.dtype, np.floating):
        dtype = np.float16 if key in ("shape_basis", "expression_basis") else np.float32
    else:
        dtype = np.uint8 if key.endswith("/valid") else np.int32
    return np.ascontiguousarray(value.astype(dtype))


def _at_full_precision(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        key: value.astype(np.float32 if np.issubdtype(value.dtype, np.floating) else np.int64) for key, value in arrays.items()
    }
