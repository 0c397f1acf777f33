"""Reading a dataset: exact at every instant, also while workers commit and publishers publish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from neuface_ray.dataset.arrays import to_arrays
from neuface_ray.dataset.descriptor import read_descriptor
from neuface_ray.dataset.schema import TABLES
from neuface_ray.dataset.snapshot import DatasetView, Part, empty, part_outcomes, read_view
from neuface_ray.dataset.staged import read_staged
from neuface_ray.dataset.storage import OutputError, Store, open_store
from neuface_ray.dataset.totals import TOTALS_COLUMNS, count_totals
from neuface_ray.dataset.vertices import look_up, reconstruct
from neuface_ray.errors import UsageError

if TYPE_CHECKING:
    import polars
    import torch

    from neuface_ray.heads import HeadModel

_REFRESHES = 100


def open(path: str) -> MeshDataset:
    """Open a dataset for reading, by folder or URL. UsageError if there is none."""
    return MeshDataset(open_store(path))


@dataclass(frozen=True)
class _Piece:
    """A part, or the name of a staged file, without some of its segments."""

    source: Part | str
    without: frozenset[str] = frozenset()


@dataclass(frozen=True)
class MeshClip:
    """One clip: ``info``, its row in ``clips``, and ``frames``, its rows ordered by view and frame."""

    info: dict[str, Any]
    frames: pa.Table

    def array(self, column: str) -> np.ndarray | list:
        """A column as [F, V, ...] with views in the order of ``info["views"]``; text columns as a list in row order."""
        values = to_arrays(self.frames.select([column]))[column]
        if isinstance(values, list):
            return values
        return np.swapaxes(values.reshape(self.info["n_views"], self.info["n_frames"], *values.shape[1:]), 0, 1)


class MeshDataset:
    """A dataset open for reading. Tables: ``frames``, ``clips``, ``vertices``, ``quarantine``, ``segments``.

    Every query gives each row once and all that was committed before the dataset was opened. Staged files may be published
    and published ones replaced while it is open; it follows them, and may then show rows that were committed later.
    ``refresh`` moves it to the present.
    """

    def __init__(self, store: Store):
        self.store = store
        self.descriptor: dict[str, Any] = read_descriptor(store)
        self._view: DatasetView = read_view(store)
        if self._view.snapshot.number < self.descriptor.get("snapshot", 0):
            raise OutputError(
                f"{store.root}: snapshot {self.descriptor['snapshot']} is gone, {self._view.snapshot.number} is the newest; "
                "run `python -m neuface_ray.dataset verify DIR --repair`"
            )

    def __repr__(self) -> str:
        return f"MeshDataset({self.store.root!r}, head_model={self.head_model!r})"

    def __len__(self) -> int:
        """Rows of ``frames``."""
        return sum(table.num_rows for table in self.scan("frames", ["segment_id"]))

    @property
    def path(self) -> str:
        return self.store.root

    @property
    def head_model(self) -> str:
        """``name/version/hash`` of the head that all parameters belong to."""
        return self.descriptor["head_model"]

    @property
    def version(self) -> int:
        """Number of the snapshot that it was opened at."""
        return self._view.snapshot.number

    def refresh(self) -> MeshDataset:
        """The dataset as it is now."""
        return MeshDataset(self.store)

    def totals(self) -> dict[str, Any]:
        """Counts over all rows: segments by outcome, clips by the gate's decision, frames, hours, reasons."""
        return count_totals(**{name: self.table(name, columns) for name, columns in TOTALS_COLUMNS.items()})

    # Tables

    def frames(self, columns: Sequence[str] | None = None, filter: pc.Expression | list | None = None) -> pa.Table:
        """Rows of ``frames`` (clip x view x frame); see ``table``."""
        return self.table("frames", columns, filter)

    def clips(self, columns: Sequence[str] | None = None, filter: pc.Expression | list | None = None) -> pa.Table:
        """Rows of ``clips``; see ``table``."""
        return self.table("clips", columns, filter)

    def quarantine(self, columns: Sequence[str] | None = None, filter: pc.Expression | list | None = None) -> pa.Table:
        """Rows of ``quarantine``: the segments that failed and why; see ``table``."""
        return self.table("quarantine", columns, filter)

    def table(self, name: str, columns: Sequence[str] | None = None, filter: pc.Expression | list | None = None) -> pa.Table:
        """A whole table as Arrow.

        Args:
            name: one of the tables; columns: those wanted, None for all.
            filter: an expression such as ``pc.field("nme") < 3``, or pyarrow's list form ``[("nme", "<", 3)]``; it is pushed
                down to the files. Null (a measurement that is missing) is never selected by a comparison.

        Raises UsageError for an unknown table or column.
        """
        pieces = list(self.scan(name, columns, filter))
        if pieces:
            return pa.concat_tables(pieces)
        blank = self.schema(name).empty_table()
        return blank.select(list(columns)) if columns is not None else blank

    def to_polars(
        self, name: str = "frames", columns: Sequence[str] | None = None, filter: pc.Expression | list | None = None
    ) -> polars.DataFrame:
        """A table as a Polars frame; fixed-size lists become Polars arrays."""
        import polars

        return polars.from_arrow(self.table(name, columns, filter))

    def dataset(self, name: str = "frames") -> pads.Dataset:
        """A table as a ``pyarrow.dataset.Dataset`` for lazy scans by other tools; valid until the next publish."""
        _check_table(name)
        complete = [p for p in self._pieces() if isinstance(p.source, Part) and not p.without and name in p.source.files]
        children: list[pads.Dataset] = []
        if complete:
            places = [self.store.arrow(piece.source.files[name].path) for piece in complete]
            children.append(pads.dataset([path for path, _ in places], filesystem=places[0][1], format="parquet"))
        rest = [table for piece in self._pieces() if piece not in complete for table in self._read(piece, name, None, None)]
        children += [pads.dataset(table) for table in rest] or ([] if complete else [pads.dataset(self._empty(name))])
        return children[0] if len(children) == 1 else pads.dataset(children)

    def scan(
        self, name: str, columns: Sequence[str] | None = None, filter: pc.Expression | list | None = None
    ) -> Iterator[pa.Table]:
        """The table piece by piece, a file at a time, in bounded memory; every row once, whatever publishers do meanwhile."""
        _check_table(name)
        expression = pq.filters_to_expression(filter) if isinstance(filter, list) else filter
        pieces, finished = self._pieces(), set()
        while pieces:
            piece = pieces.pop(0)
            try:
                segments = self._segments(piece)
                tables = self._read(piece, name, columns, expression)
            except FileNotFoundError:
                pieces = self._follow(finished)
                continue
            finished |= segments
            yield from (table for table in tables if table.num_rows)

    def schema(self, name: str) -> pa.Schema:
        """Columns of a table; the field metadata holds ``unit``, ``shape`` and ``description``."""
        _check_table(name)
        for _ in range(_REFRESHES):
            try:
                for piece in self._pieces():
                    if isinstance(piece.source, str):
                        tables = read_staged(self.store, piece.source)
                        if name in tables:
                            return tables[name].schema
                    elif name in piece.source.files:
                        path, filesystem = self.store.arrow(piece.source.files[name].path)
                        return pq.read_schema(path, filesystem=filesystem)
                return self._empty(name).schema
            except FileNotFoundError:
                self._follow(set())
        raise OutputError(f"{self.path}: files were replaced faster than they could be read")

    def _empty(self, name: str) -> pa.Table:
        return empty(name, self.descriptor["schema_version"])

    def files(self, name: str) -> list[str]:
        """Paths of the table's published files, relative to the dataset."""
        _check_table(name)
        return [part.files[name].path for part in self._view.snapshot.parts if name in part.files]

    # Clips, vertices, tensors

    def clip(self, clip_id: str) -> MeshClip:
        """One clip: its row and its frames. KeyError if there is no such clip."""
        found = self.clips(filter=pc.field("clip_id") == clip_id).to_pylist()
        if not found:
            raise KeyError(f"{self.path} has no clip {clip_id!r}")
        # The sequence prunes row groups by their statistics: files are sorted by it.
        same = (pc.field("sequence_id") == found[0]["sequence_id"]) & (pc.field("clip_id") == clip_id)
        return MeshClip(found[0], self.frames(filter=same))

    def vertices(self, rows: pa.Table, head: HeadModel | None = None, batch_size: int = 1) -> np.ndarray:
        """Vertices [rows, N, 3] float32, metres, in the head's frame, for any rows of ``frames``.

        Stored vertices are used where the dataset has them and ``head`` is None; else they are derived from ``shape``,
        ``expression`` and ``pose``.

        Args:
            rows: from ``frames``, with at least head_model and the parameters (or clip_id, view and frame_index).
            head: the head model; None loads the open head if the rows belong to it.
            batch_size: with 1, the result for a row has the same bits whatever other rows are asked for; larger batches are
                faster and agree within rounding.

        Raises DataError (code ``head_mismatch``) if ``head`` is not the one that the rows belong to.
        """
        if self.has_vertices and head is None:
            clips = pc.unique(rows["clip_id"])
            return look_up(rows, self.table("vertices", filter=pc.field("clip_id").isin(clips)))
        return reconstruct(rows, head, self.head_model, batch_size)

    @property
    def has_vertices(self) -> bool:
        """Positions are stored in the dataset (not only derived from the parameters)."""
        return next(self.scan("vertices", ["segment_id"]), None) is not None

    def iter_torch(
        self,
        batch_size: int,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | list | None = None,
        seed: int | None = None,
        drop_last: bool = False,
    ) -> Iterator[dict[str, torch.Tensor | list[str]]]:
        """Batches of ``frames`` as tensors, lists folded to their shape: ``landmarks`` is [B, L, 2], text a list of str.

        Missing floats are NaN. With ``seed`` the rows of each file (or staged segment) are shuffled, the same way each time.
        """
        import torch

        rng, waiting = (None if seed is None else np.random.default_rng(seed)), []

        def batch(table: pa.Table) -> dict[str, torch.Tensor | list[str]]:
            arrays = to_arrays(table)
            return {k: v if isinstance(v, list) else torch.from_numpy(np.array(v)) for k, v in arrays.items()}

        for table in self.scan("frames", columns, filter):
            waiting.append(table if rng is None else table.take(rng.permutation(table.num_rows)))
            rows = pa.concat_tables(waiting)
            stop = rows.num_rows - rows.num_rows % batch_size
            for start in range(0, stop, batch_size):
                yield batch(rows.slice(start, batch_size))
            waiting = [rows.slice(stop)]
        rest = pa.concat_tables(waiting) if waiting else None
        if rest is not None and rest.num_rows and not drop_last:
            yield batch(rest)

    # How it is put together

    def _pieces(self) -> list[_Piece]:
        view = self._view
        parts = [_Piece(part, view.hidden(part)) for part in view.snapshot.parts]
        return parts + [_Piece(name) for name in view.staged]

    def _segments(self, piece: _Piece) -> frozenset[str]:
        if isinstance(piece.source, str):
            return frozenset([self._view.staged[piece.source]]) - piece.without
        return frozenset(part_outcomes(self.store, piece.source)) - piece.without

    def _follow(self, finished: set[str]) -> list[_Piece]:
        """A file was replaced: take the present view, and of it what has not been read yet."""
        for _ in range(_REFRESHES):
            before, self._view = self._view, read_view(self.store)
            if before == self._view:
                raise OutputError(f"{self.path}: a file of the dataset is missing; run `python -m neuface_ray.dataset verify`")
            try:
                pieces = [_Piece(p.source, p.without | (self._segments(p) & finished)) for p in self._pieces()]
                return [piece for piece in pieces if self._segments(piece)]
            except FileNotFoundError:
                continue
        raise OutputError(f"{self.path}: files were replaced faster than they could be read")

    def _read(
        self, piece: _Piece, name: str, columns: Sequence[str] | None, expression: pc.Expression | None
    ) -> list[pa.Table]:
        if isinstance(piece.source, str):
            tables = read_staged(self.store, piece.source)
            shown = name in tables and not self._view.deletions.cover_tables(tables)
            source = pads.dataset(tables[name]) if shown else None
        elif name in piece.source.files:
            path, filesystem = self.store.arrow(piece.source.files[name].path)
            source = pads.dataset([path], filesystem=filesystem, format="parquet")
        else:
            source = None
        if source is None:
            return []
        if piece.without:
            keep = ~pc.field("segment_id").isin(sorted(piece.without))
            expression = keep if expression is None else expression & keep
        return [_selected(source, name, columns, expression, self.path)]


def _check_table(name: str) -> None:
    if name not in TABLES:
        raise UsageError(f"there is no table {name!r}; the tables are {', '.join(TABLES)}")


def _selected(
    source: pads.Dataset, name: str, columns: Sequence[str] | None, expression: pc.Expression | None, path: str
) -> pa.Table:
    try:
        return source.to_table(columns=None if columns is None else list(columns), filter=expression)
    except pa.ArrowInvalid as error:
        if "No match for FieldRef" in str(error):
            raise UsageError(f"{name} has no such column ({error}); it has {', '.join(source.schema.names)}") from error
        raise OutputError(f"{path}/{name}: {error}. Run `python -m neuface_ray.dataset verify`.") from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OutputError(f"{path}/{name}: {error}. Run `python -m neuface_ray.dataset verify`.") from error
