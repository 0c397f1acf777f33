"""Manifests: CSV, JSONL or Parquet tables that name recordings; read strictly, kept within their root.

Columns: ``uri`` (required); ``sequence`` (rows of one sequence are synchronised views; default: the file's name), ``view``,
``start`` and ``end`` (seconds from the start of the file as players show it), ``offset_s`` (seconds to add to this view's clock
so that it is the other views'; may be negative), ``person``, ``licence``, ``intrinsics`` (9 numbers, row-major K in pixels of
the picture as shown) and ``world_to_camera`` (16 numbers, row-major, metres, OpenCV axes). Other columns are ignored unless
they look like a misspelt one of these. Relative URIs start at the root: ``manifest_root``, or the folder of the manifest.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neuface_ray.errors import DataError, UsageError
from neuface_ray.media.config import MediaConfig
from neuface_ray.media.source import open_local
from neuface_ray.types import Camera
from neuface_ray.uri import SourceUri, is_remote, local_path, local_uri

COLUMNS = ("uri", "sequence", "view", "start", "end", "offset_s", "person", "licence", "intrinsics", "world_to_camera")
SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
MOST_CHARACTERS = 32_768
"""Of one value."""
MOST_LINE_CHARACTERS = 1 << 20
MOST_EXPANDED_BYTES = 1 << 30
"""Of all text in a Parquet manifest, of which a small file can hold any amount."""


@dataclass(frozen=True)
class Entry:
    """One row: a recording, or a part of it from ``start`` to ``end`` seconds; ``where`` says which row for messages."""

    where: str
    uri: str
    sequence: str | None = None
    view: str | None = None
    start: float | None = None
    end: float | None = None
    offset_s: float = 0.0
    person: str | None = None
    licence: str | None = None
    camera: Camera | None = None


def read_manifest(uri: str, options: MediaConfig) -> list[Entry]:
    """Entries of a manifest in its order.

    Raises:
        UsageError: unreadable or empty, no ``uri`` column, a misspelt column, a value that cannot be, or a path outside
            the root; the message names the row.
    """
    name = str(uri)
    try:
        with open_local(uri, options.limits.max_file_bytes) as path:
            rows = list(_rows(path, name, options.limits.max_files))
    except DataError as error:
        raise UsageError(f"manifest {error}") from error
    if not rows:
        raise UsageError(f"manifest {name}: holds no rows")
    default = os.path.dirname(name if is_remote(name) else local_path(name)) or "."
    root = options.manifest_root or default
    return [_entry(row, f"manifest {name}, row {number}", root, options.allow_outside_root) for number, row in rows]


def resolve(uri: str, root: str, allow_outside: bool, where: str) -> str:
    """The absolute URI of a manifest's entry, which must lie under ``root`` unless that is allowed.

    Raises:
        UsageError: it lies outside, through ``..``, an absolute path, a link or another host.
    """
    if "\0" in uri:
        raise UsageError(f"{where}: uri holds a NUL character")
    if is_remote(uri) or (is_remote(root) and not uri.startswith("file://")):
        full = uri if is_remote(uri) else root.rstrip("/") + "/" + uri
        inside = is_remote(root) and full.startswith(root.rstrip("/") + "/") and ".." not in full.split("/")
        resolved = SourceUri(full)
    else:
        path = os.path.join(local_path(root), os.path.expanduser(local_path(uri)) if allow_outside else local_path(uri))
        real_root = os.path.realpath(local_path(root))
        inside = not is_remote(root) and os.path.commonpath([real_root, os.path.realpath(path)]) == real_root
        resolved = local_uri(path)
    if not inside and not allow_outside:
        raise UsageError(
            f"{where}: {SourceUri(uri)!s} lies outside the root {SourceUri(root)!s}; set media.allow_outside_root=true"
        )
    return resolved


def _rows(path: str, name: str, most: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    suffix = os.path.splitext(name)[1].lower()
    try:
        if suffix == ".parquet":
            rows: Iterable[Mapping[str, Any]] = _parquet_rows(path, name, most)
        elif suffix == ".csv":
            rows = _csv_rows(path, name)
        else:
            rows = _json_rows(path, name)
        for number, row in enumerate(rows, start=1):
            if number > most:
                raise UsageError(f"manifest {name}: more than media.limits.max_files={most} rows")
            if number == 1 or suffix in (".jsonl", ".ndjson"):
                _check_columns(row, f"manifest {name}, row {number}")
            yield number, row
    except (UnicodeDecodeError, csv.Error, ValueError, RecursionError, pa.ArrowException) as error:
        raise UsageError(f"manifest {name}: cannot be read as {suffix[1:]}: {str(error).partition(chr(10))[0]}") from error


def _csv_rows(path: str, name: str) -> Iterator[Mapping[str, Any]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        _check_columns(dict.fromkeys(reader.fieldnames or ()), f"manifest {name}")
        for row in reader:
            if None in row or None in row.values():
                raise UsageError(f"manifest {name}, line {reader.line_num}: has not as many fields as the header")
            yield row


def _json_rows(path: str, name: str) -> Iterator[Mapping[str, Any]]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(iter(lambda: file.readline(MOST_LINE_CHARACTERS + 1), ""), start=1):
            if len(line) > MOST_LINE_CHARACTERS:
                raise UsageError(f"manifest {name}, line {number}: more than {MOST_LINE_CHARACTERS} characters")
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise UsageError(f"manifest {name}, line {number}: is not a JSON object")
            yield row


def _parquet_rows(path: str, name: str, most: int) -> Iterator[Mapping[str, Any]]:
    """Rows of a table whose size is known before it is expanded: equal texts stay one, in a dictionary, until it is checked."""
    with pq.ParquetFile(path) as file:
        table = file.schema_arrow
        columns = [column for column in COLUMNS if column in table.names]
        texts = [column for column in columns if pa.types.is_string(table.field(column).type)]
        _check_columns(dict.fromkeys(table.names), f"manifest {name}")
        if file.metadata.num_rows > most:
            raise UsageError(f"manifest {name}: more than media.limits.max_files={most} rows")
        _check_chunks(file.metadata, columns, name)
    expanded = 0
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            for column in texts:
                values = batch.column(column)
                if (pc.max(pc.utf8_length(values.dictionary)).as_py() or 0) > MOST_CHARACTERS:
                    raise UsageError(f"manifest {name}: a value of {column} has more than {MOST_CHARACTERS} characters")
                expanded += pc.sum(pc.binary_length(values.dictionary_decode())).as_py() or 0
            if expanded > MOST_EXPANDED_BYTES:
                raise UsageError(f"manifest {name}: its text expands to more than {MOST_EXPANDED_BYTES} bytes")
            yield from batch.to_pylist()


def _check_chunks(metadata: pq.FileMetaData, columns: Collection[str], name: str) -> None:
    """Raises UsageError if the file says that a column holds more than its rows can: bytes, or numbers in lists."""
    size = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            column = chunk.path_in_schema.partition(".")[0]
            if column in columns:
                size += chunk.total_uncompressed_size
                if chunk.num_values > 16 * group.num_rows:
                    raise UsageError(f"manifest {name}: rows of {column} hold more than 16 numbers")
    if size > MOST_EXPANDED_BYTES:
        raise UsageError(f"manifest {name}: it expands to more than {MOST_EXPANDED_BYTES} bytes")


def _check_columns(row: Mapping[str, Any], where: str) -> None:
    if "uri" not in row:
        raise UsageError(f"{where}: the column uri is missing; there are: {', '.join(map(repr, row)) or 'none'}")
    for column in row:
        near = difflib.get_close_matches(str(column).lower(), COLUMNS, 1, cutoff=0.8)
        if column not in COLUMNS and near and near[0] not in row:
            raise UsageError(f"{where}: unknown column {column!r}; did you mean {near[0]!r}?")


def _entry(row: Mapping[str, Any], where: str, root: str, allow_outside: bool) -> Entry:
    uri = _text(row, "uri", where)
    if uri is None:
        raise UsageError(f"{where}: uri is empty")
    start, end = _number(row, "start", where), _number(row, "end", where)
    if end is not None and end <= (start or 0.0):
        raise UsageError(f"{where}: end={end:g} is not after start={start or 0.0:g}")
    return Entry(
        where=where,
        uri=resolve(uri, root, allow_outside, where),
        sequence=_text(row, "sequence", where),
        view=_text(row, "view", where),
        start=start,
        end=end,
        offset_s=_number(row, "offset_s", where, least=-math.inf) or 0.0,
        person=_text(row, "person", where),
        licence=_text(row, "licence", where),
        camera=_camera(row, where),
    )


def _text(row: Mapping[str, Any], column: str, where: str) -> str | None:
    value = row.get(column)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{where}: {column} is not text")
    text = str(value)
    if len(text) > MOST_CHARACTERS:
        raise UsageError(f"{where}: {column} has more than {MOST_CHARACTERS} characters")
    if column != "uri":
        text = text.strip()
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"{where}: {column} is not valid unicode") from error
    return text or None


def _number(row: Mapping[str, Any], column: str, where: str, least: float = 0.0) -> float | None:
    value = row.get(column)
    if value is None or value == "":
        return None
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number < least:
        raise UsageError(f"{where}: {column}={value!r} is not a time in seconds")
    return number


def _camera(row: Mapping[str, Any], where: str) -> Camera | None:
    intrinsics, extrinsics = _matrix(row, "intrinsics", 3, where), _matrix(row, "world_to_camera", 4, where)
    if intrinsics is None and extrinsics is None:
        return None
    if intrinsics is None or extrinsics is None:
        raise UsageError(f"{where}: intrinsics and world_to_camera come together")
    rotation = extrinsics[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or not np.allclose(extrinsics[3], [0, 0, 0, 1]):
        raise UsageError(f"{where}: world_to_camera is not a rigid transform")
    if not np.allclose(intrinsics[2], [0, 0, 1]) or min(intrinsics[0, 0], intrinsics[1, 1]) <= 0:
        raise UsageError(f"{where}: intrinsics is not a camera matrix")
    return Camera(intrinsics, extrinsics)


def _matrix(row: Mapping[str, Any], column: str, side: int, where: str) -> np.ndarray | None:
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if isinstance(value, str):
            value = np.loadtxt(io.StringIO(value.strip("[] ").replace(",", " ")), ndmin=1)
        matrix = np.asarray(value, np.float64).reshape(side, side)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {column} needs {side * side} numbers") from error
    if not np.isfinite(matrix).all():
        raise UsageError(f"{where}: {column} needs {side * side} finite numbers")
    return matrix
