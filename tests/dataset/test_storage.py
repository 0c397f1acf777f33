import contextlib
import errno
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
import uuid
from typing import ClassVar

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from neuface_ray.dataset.storage import ObjectStore, OutputError, PosixStore, open_store
from neuface_ray.errors import UsageError


@pytest.fixture(params=["posix", "memory"])
def store(request, tmp_path):
    return open_store(tmp_path / "out" if request.param == "posix" else f"memory://{uuid.uuid4().hex}/out")


def test_create_is_exclusive_and_replace_is_not(store):
    assert store.create("a/b/x", b"1")
    assert not store.create("a/b/x", b"2")
    assert store.read("a/b/x") == b"1"
    store.replace("a/b/x", b"three")
    assert store.read("a/b/x") == b"three"
    assert store.size("a/b/x") == 5
    store.touch("a/marker")
    assert store.names() == ["a/b/x", "a/marker"]
    assert store.names("a/b") == ["a/b/x"]
    assert store.names("absent") == []
    assert store.exists("a/b/x")
    assert store.remove("a/b/x")
    assert not store.remove("a/b/x")
    assert not store.exists("a/b/x")
    with pytest.raises(FileNotFoundError):
        store.read("a/b/x")


def test_stores_are_equal_by_place(tmp_path):
    assert open_store(tmp_path) == open_store(f"file://{tmp_path}")
    assert isinstance(open_store("memory://x"), ObjectStore)
    assert open_store(tmp_path) != open_store(tmp_path / "y")


def _race(root, name, start, wins):
    start.wait()
    if PosixStore(root).create("prize", name.encode() * 10000):
        wins.put(name)


def test_of_many_creators_one_wins(tmp_path):
    context = multiprocessing.get_context("fork")
    start, wins = context.Barrier(8), context.SimpleQueue()
    racers = [context.Process(target=_race, args=(str(tmp_path), str(i), start, wins)) for i in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
        assert racer.exitcode == 0
    winner = wins.get()
    assert wins.empty()
    assert PosixStore(str(tmp_path)).read("prize") == winner.encode() * 10000
    assert PosixStore(str(tmp_path)).names() == ["prize"]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota"), (errno.EIO, "Input/output")]
)
def test_failed_writes_leave_nothing(tmp_path, monkeypatch, number, words):
    store = PosixStore(str(tmp_path))
    store.create("before", b"kept")

    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    for write in (store.create, store.replace):
        with pytest.raises(OutputError, match=words):
            write("after", b"x" * 100)
    assert store.names() == ["before"]


def test_a_real_size_limit_leaves_nothing(tmp_path):
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            PosixStore(str(tmp_path)).create("big", b"x" * 10000)
        except OutputError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert PosixStore(str(tmp_path)).names() == []


def test_a_place_that_cannot_be_written_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        open_store(tmp_path / "file" / "out").open_for_writing()


def test_a_store_that_overwrites_is_refused(monkeypatch):
    store = open_store("memory://overwrites")
    monkeypatch.setattr(store._located[0], "pipe_file", lambda path, data, mode="overwrite": None)
    monkeypatch.setattr(store._located[0], "rm_file", lambda path: None)
    with pytest.raises(UsageError, match="conditional put"):
        store.open_for_writing()


class CheckThenWrite(MemoryFileSystem):
    """A store that inherits fsspec's exclusive create, which looks and then writes."""

    protocol = "checkthenwrite"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    pipe_file = AbstractFileSystem.pipe_file


class Overridden(CheckThenWrite):
    """One with an exclusive create of its own, which is exclusive only if ``lock`` is one."""

    protocol = "overridden"
    lock: ClassVar = threading.Lock()

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        with self.lock:
            if mode == "create" and self.exists(path):
                raise FileExistsError(path)
            time.sleep(0.01)
            with self.open(path, "wb") as file:
                file.write(value)


for kind in (CheckThenWrite, Overridden):
    fsspec.register_implementation(kind.protocol, kind, clobber=True)


@pytest.mark.parametrize("root", ["checkthenwrite://b/out", "simplecache::memory://b/out", "dir::memory://b/out"])
def test_a_store_that_looks_and_then_writes_is_refused(root):
    with pytest.raises(UsageError, match=r"conditional put.*s3://, .*memory://"):
        open_store(root).open_for_writing()


def test_an_exclusive_create_of_a_packages_own_must_win_the_race(monkeypatch):
    store = open_store("overridden://b/out")
    store.open_for_writing()
    assert store.names() == []
    monkeypatch.setattr(Overridden, "lock", contextlib.nullcontext())
    with pytest.raises(UsageError, match="conditional put"):
        store.open_for_writing()


def test_local_urls_are_folders(tmp_path):
    for url in (f"local://{tmp_path}/x", f"file://{tmp_path}/x"):
        assert open_store(url) == PosixStore(f"{tmp_path}/x")


def test_no_hard_links_is_explained(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UsageError, match="no hard links"):
        open_store(tmp_path).open_for_writing()


def test_a_repeated_nfs_link_counts_as_success(tmp_path, monkeypatch):
    link = os.link

    def twice(source, target):
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert PosixStore(str(tmp_path)).create("x", b"1")


def test_leftovers_are_found_by_age(tmp_path):
    store = PosixStore(str(tmp_path))
    store.touch("_tmp/dead")
    assert store.stale_temporaries() == []
    os.utime(tmp_path / "_tmp" / "dead", (0, 0))
    assert store.stale_temporaries() == ["_tmp/dead"]


SECRET_ROOT = "s3://KEY:SEC/RET@no-such-bucket/out?jwt=TOKEN"


def test_a_store_shows_no_credentials_and_opens_with_them():
    root = f"memory://KEY:SECRET@{uuid.uuid4().hex}/out"
    store = open_store(root)
    for shown in (str(store.root), repr(store), f"{store.root}", str(OutputError(f"{store.root} is damaged"))):
        assert "SECRET" not in shown
    store.create("x", b"1")
    for same in (open_store(store.root), pickle.loads(pickle.dumps(store)), open_store(root + "/")):
        assert same.read("x") == b"1"
        assert same == store


def test_errors_of_a_store_tell_no_credentials():
    with pytest.raises(UsageError) as refused:
        open_store(SECRET_ROOT).open_for_writing()
    shown = "".join(traceback.format_exception(refused.value))
    assert "no-such-bucket/out" in shown
    assert not [word for word in ("KEY", "SEC/", "RET@", "TOKEN") if word in shown]


WRITER = """
import os, sys
from neuface_ray.dataset.storage import PosixStore
link = os.link
def wait(source, target):
    print("written", flush=True)
    sys.stdin.readline()
    link(source, target)
os.link = wait
assert PosixStore(sys.argv[1]).create("name", b"precious")
"""


def test_a_living_writers_file_is_no_leftover_whatever_the_clock_says(tmp_path, monkeypatch):
    """A clock that jumps by hours, or another machine's that is ahead, makes a file that was just written look old."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "written\n"
    store, (temporary,) = PosixStore(str(tmp_path)), (tmp_path / "_tmp").iterdir()
    os.utime(temporary, (0, 0))
    assert store.stale_temporaries() == []
    writer.communicate("go on\n", timeout=60)
    assert writer.returncode == 0
    assert store.names() == ["name"]

    store.touch("_tmp/of another machine")
    monkeypatch.setattr(time, "time", lambda: os.stat(tmp_path).st_mtime + 7 * 3600)
    assert store.stale_temporaries() == []


def test_a_dead_writers_file_is_a_leftover(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "written\n"
    writer.kill()
    writer.communicate()
    (temporary,) = (tmp_path / "_tmp").iterdir()
    os.utime(temporary, (0, 0))
    assert PosixStore(str(tmp_path)).stale_temporaries() == [f"_tmp/{temporary.name}"]


def test_a_file_that_was_taken_for_a_leftover_is_written_again(tmp_path, monkeypatch):
    link, taken = os.link, []

    def take_away_once(source, target):
        if not taken:
            taken.append(os.unlink(source))
        link(source, target)

    monkeypatch.setattr(os, "link", take_away_once)
    store = PosixStore(str(tmp_path))
    assert store.create("name", b"precious")
    assert (store.names(), store.read("name"), len(taken)) == (["name"], b"precious", 1)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_who_may_read_a_dataset_follows_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        store = PosixStore(str(tmp_path / "out"))
        store.create("frames/a", b"1")
        store.replace("run.json", b"2")
        store.touch("_attempts/b")
    finally:
        os.umask(before)
    for path in (tmp_path / "out").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask
