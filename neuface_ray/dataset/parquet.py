"""Writing public Parquet files: sorted, with statistics, named after their content."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from neuface_ray.dataset.schema import schema
from neuface_ray.dataset.snapshot import Part, PublicFile, public_name
from neuface_ray.dataset.storage import OutputError, Store

TARGET_BYTES = 128 * 2**20
_ROW_GROUP_BYTES = 16 * 2**20
_WRITE_ORDER = ("frames", "clips", "vertices", "quarantine", "segments")
"""``segments`` last: where it exists, the part is complete."""


@dataclass
class _TableFile:
    """One Parquet file that is being filled in memory; rows are written a row group at a time."""

    row_group_bytes: int
    sink: pa.BufferOutputStream = field(default_factory=pa.BufferOutputStream)
    writer: pq.ParquetWriter | None = None
    waiting: list[pa.Table] = field(default_factory=list)
    waiting_bytes: int = 0
    rows: int = 0

    def add(self, table: pa.Table) -> None:
        if self.writer is None:
            self.writer = _writer(self.sink, table.schema)
        elif not table.schema.equals(self.writer.schema):
            raise OutputError(
                f"rows of differing layout in one dataset:\n{table.schema.remove_metadata()}\ninstead of\n"
                f"{self.writer.schema.remove_metadata()}\nOne dataset holds one head model, landmark scheme and configuration."
            )
        self.waiting.append(table)
        self.rows += table.num_rows
        self.waiting_bytes += table.nbytes
        if self.waiting_bytes >= self.row_group_bytes:
            self._flush()

    def _flush(self) -> None:
        if self.waiting:
            table = pa.concat_tables(self.waiting).combine_chunks()
            self.writer.write_table(table, row_group_size=max(table.num_rows, 1))
            self.waiting, self.waiting_bytes = [], 0

    def size(self) -> int:
        return self.sink.tell()

    def finish(self) -> bytes:
        self._flush()
        self.writer.close()
        return self.sink.getvalue().to_pybytes()


def _writer(sink: pa.BufferOutputStream, layout: pa.Schema) -> pq.ParquetWriter:
    plain = [field.name for field in layout if not pa.types.is_nested(field.type)]
    return pq.ParquetWriter(
        sink,
        layout,
        version="2.6",
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in plain if pa.types.is_string(layout.field(name).type)],
        write_statistics=plain,  # the extremes of a list's elements help nobody and cost half of the time
        write_page_index=True,
    )


class PartWriter:
    """Turns the tables of segments, which come in their final order, into parts of about ``target_bytes`` per largest file.

    Args:
        number: the snapshot for which the files are written; their names carry it and a name of this publisher.
        always: tables that get a file, be it without rows, so that a plain glob over them finds something.
    """

    def __init__(self, store: Store, number: int, target_bytes: int, always: tuple[str, ...] = ()):
        self._store, self._target, self._always = store, target_bytes, always
        self._prefix = f"{number:08d}-{uuid.uuid4().hex[:8]}"
        self._files: dict[str, _TableFile] = {}
        self._parts: list[Part] = []

    def add(self, tables: dict[str, pa.Table]) -> None:
        """Add one segment; it is never split over two parts."""
        for name, table in tables.items():
            self._file(name).add(table)
        if max(file.size() for file in self._files.values()) >= self._target:
            self.finish_part()

    def add_rows(self, table: str, rows: pa.Table) -> None:
        """Add rows of many segments to one table of the part; they are in their final order."""
        self._file(table).add(rows)

    def _file(self, name: str) -> _TableFile:
        return self._files.setdefault(name, _TableFile(min(_ROW_GROUP_BYTES, self._target // 8)))

    def close(self) -> list[Part]:
        """Write what is left; the parts that were made."""
        self.finish_part()
        return self._parts

    def finish_part(self) -> None:
        """Write what was added since the last part, if anything."""
        if not self._files:
            return
        for name in self._always:
            self._file(name).add(schema(name).empty_table())
        self._always = ()
        name, files = f"{self._prefix}-{len(self._parts):04d}", {}
        for table in _WRITE_ORDER:
            if table in self._files:
                rows, data = self._files[table].rows, self._files[table].finish()
                digest = hashlib.sha256(data).hexdigest()
                path = public_name(table, name, digest)
                self._store.create(path, data)
                files[table] = PublicFile(path, rows, len(data), digest)
        self._parts.append(Part(name, files))
        self._files = {}
