"""Reads pickled arrays from files of strangers: nothing but arrays, sparse matrices and plain containers is ever built.

FLAME's files are Python 2 pickles that name numpy, scipy.sparse and chumpy classes; its landmark file names torch. A pickle may
call whatever its unpickler can look up, so the look-up here is a short table of harmless constructors; sparse matrices and
chumpy objects become plain records instead of their own classes.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuface_ray.errors import ModelFileError


class Record:
    """Stands in for an instance of a foreign class: keeps the pickled attributes and does nothing."""

    def __init__(self, *_: Any):
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple):
            state = {key: value for part in state if part for key, value in part.items()}
        self.state = {(key.decode("latin1") if isinstance(key, bytes) else key): value for key, value in state.items()}


class ChumpyRecord(Record):
    """A chumpy array; its values are the attribute ``x``."""


class ColumnsRecord(Record):
    """A scipy.sparse csc_matrix or csc_array."""


class RowsRecord(Record):
    """A scipy.sparse csr_matrix or csr_array."""


def dense(value: Any) -> np.ndarray:
    """The numpy array behind a loaded value: an array, a chumpy or scipy.sparse record, a tensor, or nested numbers.

    Raises:
        ValueError: the value is a chumpy expression without stored numbers, or a sparse matrix that contradicts itself.
    """
    if isinstance(value, ChumpyRecord):
        if "x" not in value.state:
            raise ValueError("a chumpy object without stored values (an expression) cannot be read")
        return dense(value.state["x"])
    if isinstance(value, Record):
        return _dense_matrix(value)
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    array = np.asarray(value)
    if array.dtype == object:
        raise ValueError("an array of Python objects stands where numbers are expected")
    return array


def _dense_matrix(record: Record) -> np.ndarray:
    state = record.state
    shape = state.get("_shape", state.get("shape"))
    data, indices, pointers = (np.asarray(state[key]) for key in ("data", "indices", "indptr"))
    by_column = isinstance(record, ColumnsRecord)
    counts = np.diff(pointers)
    if (
        shape is None
        or len(counts) != shape[by_column]
        or (counts < 0).any()
        or {len(data), len(indices)} != {int(counts.sum())}
    ):
        raise ValueError("a sparse matrix contradicts itself")
    lines = np.repeat(np.arange(len(counts)), counts)
    result = np.zeros(shape)
    np.add.at(result, (indices, lines) if by_column else (lines, indices), data)
    return result


def _reconstructor(cls: type, base: type, state: Any) -> Any:
    if not (isinstance(cls, type) and issubclass(cls, Record) and base is object and state is None):
        raise pickle.UnpicklingError("copyreg._reconstructor of anything but a chumpy or scipy.sparse object")
    return cls()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


def _storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")


def _table() -> dict[tuple[str, str], Any]:
    multiarray, numeric = np._core.multiarray, np._core.numeric
    table: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encode,
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        ("torch.storage", "_load_from_bytes"): _storage,
    }
    for core in ("numpy.core", "numpy._core"):
        table[(f"{core}.multiarray", "_reconstruct")] = multiarray._reconstruct
        table[(f"{core}.multiarray", "scalar")] = multiarray.scalar
        table[(f"{core}.numeric", "_frombuffer")] = numeric._frombuffer
    for module in ("copy_reg", "copyreg"):
        table[(module, "_reconstructor")] = _reconstructor
    for module in ("__builtin__", "builtins"):
        table[(module, "object")] = object
    for kind, record in (("csc", ColumnsRecord), ("csr", RowsRecord)):
        for module in (f"scipy.sparse.{kind}", f"scipy.sparse._{kind}", "scipy.sparse"):
            table[(module, f"{kind}_matrix")] = table[(module, f"{kind}_array")] = record
    return table


_ALLOWED = _table()


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickler that builds arrays and records only; anything else raises ModelFileError with its name."""

    def __init__(self, file, source: str):
        super().__init__(file, encoding="latin1")
        self._source = source

    def find_class(self, module: str, name: str) -> Any:
        if module == "chumpy" or module.startswith("chumpy."):
            return ChumpyRecord
        if (module, name) not in _ALLOWED:
            raise ModelFileError(
                f"{self._source} was refused: its pickle asks for {module}.{name}, which no array needs. "
                "Only numpy and scipy.sparse arrays, chumpy objects and tensors are read; obtain the file from its publisher",
                code="unsafe_pickle",
            )
        return _ALLOWED[(module, name)]


def load_pickle(path: str | Path) -> Any:
    """The content of a pickle file; foreign objects are Records (see `dense`).

    Raises:
        ModelFileError: the pickle asks for anything but arrays, or is damaged.
    """
    with open(path, "rb") as file:
        return _load(file, str(path))


def load_object_array(path: str | Path) -> Any:
    """The single object in a ``.npy`` file that numpy wrote with pickle; raises as `load_pickle`."""
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
        except ValueError as error:
            raise ModelFileError(f"{path} is not a .npy file: {error}") from error
        if dtype.kind != "O" or shape != ():
            raise ModelFileError(f"{path} holds an array {shape} of {dtype}, not one pickled object")
        return _load(file, str(path)).item()


def _load(file, source: str) -> Any:
    try:
        return RestrictedUnpickler(file, source).load()
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(f"{source} cannot be read as a pickle of arrays: {error}") from error
