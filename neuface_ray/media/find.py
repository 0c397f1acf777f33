"""The files of an input, what kind each is by its content, and what is left out with its reason."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import fsspec

from neuface_ray.errors import DataError, UsageError
from neuface_ray.extras import check_scheme
from neuface_ray.media.config import MediaConfig
from neuface_ray.media.footage import is_pattern
from neuface_ray.media.kinds import HEAD_BYTES, IMAGE_SUFFIXES, VIDEO_SUFFIXES, Kind, kind_of, kind_of_name, why_left_out
from neuface_ray.media.streams import open_container, video_streams
from neuface_ray.uri import SourceUri, is_remote, local_path, local_uri

HEADS_AT_ONCE = 32
LATER_SUFFIXES = frozenset((".heic", ".heif"))
"""Read since files are told by content; such a file never takes the name of a sequence from one that was read before."""
NO_MEDIA = "neither a video nor a picture"


@dataclass(frozen=True)
class LeftOut:
    """A file or folder of the input that is not taken, and why."""

    uri: str
    reason: str


@dataclass(frozen=True)
class Found:
    """The folder that names are relative to, the kind of every file by its URI, in order, and what is left out."""

    root: str
    kinds: dict[str, Kind]
    left_out: list[LeftOut]


def list_local(input: str, options: MediaConfig) -> Found:
    """The files of a local file, folder or glob. Raises UsageError if there are none."""
    path = os.path.expanduser(local_path(input))
    left_out: list[LeftOut] = []
    if os.path.isdir(path):
        files, root, none = list(_walk(path, left_out)), path, "the folder holds no video or image"
    elif os.path.lexists(path):
        uri = local_uri(path)
        kind = _kind_or_reason(uri)
        return Found(os.path.dirname(os.path.abspath(path)), {uri: kind if isinstance(kind, Kind) else Kind.VIDEO}, [])
    elif glob.has_magic(path):
        files = [found for found in glob.glob(path, recursive=True) if not os.path.isdir(found)]
        none = "the pattern matches no video or image"
        root = os.path.commonpath([os.path.dirname(os.path.abspath(found)) for found in files]) if files else ""
    else:
        raise UsageError(f"input={input}: does not exist")
    _check_count(len(files), input, options)
    return _classify(input, os.path.abspath(root), [local_uri(file) for file in sorted(files)], left_out, none)


def list_remote(input: str, options: MediaConfig) -> Found:
    """As ``list_local``, through fsspec."""
    shown = SourceUri(input)
    check_scheme(shown)
    try:
        filesystem, path = fsspec.core.url_to_fs(input)
        if glob.has_magic(path_of(shown)):
            found = [filesystem.unstrip_protocol(each) for each in filesystem.glob(path)]
        elif kind_of_name(path_of(shown)) is not None:
            kind = _kind_or_reason(shown)
            root = os.path.dirname(path_of(shown))
            return Found(root, {shown: kind if isinstance(kind, Kind) else Kind.VIDEO}, [])
        else:
            found = [filesystem.unstrip_protocol(each) for each in filesystem.find(path)]
    except Exception as error:  # each backend raises errors of its own, whose text may hold the credentials
        raise UsageError(f"input={shown!s}: cannot be listed ({type(error).__name__})") from None
    _check_count(len(found), str(shown), options)
    uris = [SourceUri(uri) for uri in sorted(found)]
    found_files = _classify(str(shown), "", uris, [], "holds no video or image")
    root = os.path.commonpath([os.path.dirname(path_of(uri)) for uri in found_files.kinds])
    return Found(root, found_files.kinds, found_files.left_out)


def manifest_kind(uri: str) -> Kind:
    """The kind of a file that a manifest names; a video if nothing tells."""
    if is_pattern(uri):
        return Kind.STILL
    kind = _kind_or_reason(uri)
    return kind if isinstance(kind, Kind) else kind_of_name(path_of(uri)) or Kind.VIDEO


def path_of(uri: str) -> str:
    """The path in a URI, without scheme and query."""
    return str(uri).partition("?")[0].partition("://")[2] if is_remote(uri) else local_path(uri)


def has_usual_name(name: str) -> bool:
    """True for suffixes by which files were always recognised."""
    return _suffix(name) in (VIDEO_SUFFIXES | IMAGE_SUFFIXES) - LATER_SUFFIXES


def _classify(input: str, root: str, uris: Sequence[str], left_out: list[LeftOut], none: str) -> Found:
    with ThreadPoolExecutor(HEADS_AT_ONCE) as pool:
        found = dict(zip(uris, pool.map(_kind_or_reason, uris), strict=True))
    left_out += [LeftOut(str(uri), reason) for uri, reason in found.items() if not isinstance(reason, Kind)]
    kinds = {uri: kind for uri, kind in found.items() if isinstance(kind, Kind)}
    if not kinds:
        why = f"; left out: {left_out[0].uri} ({left_out[0].reason})" if left_out else ""
        raise UsageError(f"input={input}: {none}{why}")
    return Found(root, kinds, sorted(left_out, key=lambda each: each.uri))


def _kind_or_reason(uri: str) -> Kind | str:
    """The kind of a file by its first bytes, or why it is not taken.

    A file whose name promises a video or a picture is taken even if it cannot be read, so that this is not passed over.
    """
    name = path_of(uri)
    by_name = kind_of_name(name)
    try:
        head = _remote_head(uri) if is_remote(uri) else _local_head(name)
    except Exception as error:  # each fsspec backend raises errors of its own, whose text may hold the credentials
        return by_name or f"cannot be read ({type(error).__name__})"
    if head is None:
        return by_name or "not a regular file"
    unwanted = why_left_out(head, name)
    if unwanted is not None and by_name is None:
        return unwanted
    kind = kind_of(head, name)
    if kind is Kind.VIDEO and by_name is None and not is_remote(uri):
        try:
            with open_container(name) as container:
                video_streams(container, name)
        except DataError as error:
            return str(error).replace(f"{name}: ", "") if error.code == "no_video_stream" else kind
    return kind or ("the file is empty" if not head else NO_MEDIA)


def _local_head(path: str) -> bytes | None:
    if not stat.S_ISREG(os.stat(path).st_mode):
        return None
    with open(path, "rb") as file:
        return file.read(HEAD_BYTES)


def _remote_head(uri: str) -> bytes:
    with fsspec.open(getattr(uri, "address", uri), "rb") as file:
        return file.read(HEAD_BYTES)


def _walk(folder: str, left_out: list[LeftOut]) -> Iterator[str]:
    """Files below ``folder``, links followed once; hidden ones are left out, empty folders named like media are not."""
    visited: set[str] = set()
    for base, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in visited:
            left_out.append(LeftOut(local_uri(base), "the same folder as another one, reached through a link"))
            folders.clear()
            continue
        visited.add(real)
        hidden = [name for name in (*folders, *names) if name.startswith(".")]
        left_out += [LeftOut(local_uri(os.path.join(base, name)), "hidden: its name begins with a dot") for name in hidden]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(base, name) for name in names if not name.startswith("."))
        if base != folder and kind_of_name(base) is not None and not names and not folders:
            yield base


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _check_count(count: int, input: str, options: MediaConfig) -> None:
    if count > options.limits.max_files:
        raise UsageError(f"input={input}: {count} files, more than media.limits.max_files={options.limits.max_files}")
