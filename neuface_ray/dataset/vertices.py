"""Vertices of rows: derived from the parameters by the head model of the rows, or looked up where they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neuface_ray.dataset.arrays import to_arrays
from neuface_ray.errors import DataError, UsageError

if TYPE_CHECKING:
    from neuface_ray.heads import HeadModel


def reconstruct(rows: pa.Table, head: HeadModel | None, head_model: str, batch_size: int = 1) -> np.ndarray:
    """float32 [rows, N, 3], metres, from ``shape``, ``expression`` and ``pose``.

    The parameters are stored in float32, as they were fitted; evaluated one row at a time (``batch_size`` 1) the matrix
    products have one shape only, so that equal parameters give equal bits on one machine.

    Args:
        rows: with the parameters and, if it is there, ``head_model``; head: None loads the open head.
        head_model: the id that the head must have.

    Raises DataError (code ``head_mismatch``) if the rows do not all belong to this head, UsageError if a column is missing.
    """
    import torch

    from neuface_ray.heads import load_head

    missing = {"shape", "expression", "pose"} - set(rows.schema.names)
    if missing:
        raise UsageError(f"vertices need the columns {', '.join(sorted(missing))}; select them in frames(columns=...)")
    head = load_head() if head is None else head
    named = set(pc.unique(rows["head_model"]).to_pylist()) if "head_model" in rows.schema.names else set()
    if (named or {head_model}) - {head.id}:
        raise DataError(
            f"these rows belong to head {', '.join(sorted(named or {head_model}))}, not to {head.id}: pass the head model "
            "that they were fitted with as head=",
            code="head_mismatch",
        )
    arrays = to_arrays(rows.select(["shape", "expression", "pose"]))
    device = next(head.buffers()).device
    shape, expression, pose = (torch.tensor(arrays[k], device=device) for k in ("shape", "expression", "pose"))
    with torch.no_grad():
        pieces = [
            head(shape[i : i + batch_size], expression[i : i + batch_size], pose[i : i + batch_size])
            for i in range(0, len(shape), batch_size)
        ]
    if not pieces:
        return np.zeros((0, *head.template.shape), np.float32)
    return torch.cat(pieces).float().cpu().numpy()


def look_up(rows: pa.Table, stored: pa.Table) -> np.ndarray:
    """float32 [rows, N, 3] from the rows of ``vertices`` with the same clip_id, view and frame_index.

    Raises DataError (code ``no_vertices``) if one of the rows has none.
    """
    keys = ["clip_id", "view", "frame_index"]
    places = {key: i for i, key in enumerate(zip(*(stored[name].to_pylist() for name in keys), strict=True))}
    wanted = list(zip(*(rows[name].to_pylist() for name in keys), strict=True))
    absent = [key for key in wanted if key not in places]
    if absent:
        raise DataError(
            f"{len(absent)} of {len(wanted)} rows have no stored vertices, the first {absent[0]}", code="no_vertices"
        )
    found = stored.select(["vertices"]).take(pa.array([places[key] for key in wanted], pa.int64()))
    return to_arrays(found)["vertices"].astype(np.float32)
