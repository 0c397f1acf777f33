"""From Arrow columns to numpy arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from neuface_ray.dataset.schema import shape_of


def to_arrays(table: pa.Table) -> dict[str, np.ndarray | list]:
    """Columns as numpy arrays, lists folded to the ``shape`` of their metadata: [rows, *shape]; text and ragged lists as lists.

    Missing floats and missing lists of floats become NaN. ValueError if a bool or integer is missing.
    """
    return {field.name: column_array(table[field.name], field) for field in table.schema}


def column_array(column: pa.ChunkedArray | pa.Array, field: pa.Field) -> np.ndarray | list:
    """One column as described by its field; see ``to_arrays``."""
    array = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) and column.num_chunks else column
    array = pa.array([], field.type) if isinstance(array, pa.ChunkedArray) else array
    if pa.types.is_fixed_size_list(field.type):
        return _fold(array, shape_of(field) or (field.type.list_size,))
    if pa.types.is_list(field.type) and shape_of(field):
        return np.zeros((len(array), *shape_of(field)), field.type.value_type.to_pandas_dtype())
    if pa.types.is_floating(field.type):
        return array.to_numpy(zero_copy_only=False)
    if pa.types.is_integer(field.type) or pa.types.is_boolean(field.type):
        if array.null_count:
            raise ValueError(f"column {field.name} has {array.null_count} missing values")
        return array.to_numpy(zero_copy_only=False)
    return array.to_pylist()


def _fold(array: pa.FixedSizeListArray, shape: tuple[int, ...]) -> np.ndarray:
    if not array.null_count:
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), *shape)
    present = array.drop_null().flatten().to_numpy(zero_copy_only=False)
    folded = np.full((len(array), *shape), np.nan, present.dtype)
    folded[array.is_valid().to_numpy(zero_copy_only=False)] = present.reshape(-1, *shape)
    return folded
