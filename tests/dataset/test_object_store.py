"""The protocol on an S3-compatible server that runs in this process, undisturbed and with faults."""

import concurrent.futures
import io
import subprocess
import sys
import time

import boto3
import pyarrow.parquet as pq
import pytest

import neuface_ray
from neuface_ray.dataset import Output, OutputError, delete, finalise, publish
from neuface_ray.dataset.storage import open_store
from neuface_ray.dataset.verify import verify
from tests.dataset.made import assert_holds, comparable, expected, make_rows, make_segment, provenance, write
from tests.s3_server import serve_s3


@pytest.fixture(scope="module")
def server():
    with serve_s3("bucket") as server:
        yield server


def test_a_dataset_on_s3(server):
    root = "s3://bucket/plain"
    segments = write(root, 3, quarantined=1)
    wanted = expected(segments, 3)
    output = Output.open(root, provenance("again"))
    assert_holds(neuface_ray.open(root), wanted)
    assert not output.commit(segments[0], make_rows(segments[0]))
    assert output.pending(segments) == []
    dataset = neuface_ray.open(root)
    finalise(output.store)
    assert_holds(dataset, wanted)
    assert comparable("frames", dataset.dataset("frames").to_table()).equals(wanted["frames"])
    assert verify(root).sound
    assert not [name for name in output.store.names() if name.startswith("_staged")]


def test_of_many_creators_one_wins(server):
    store = open_store("s3://bucket/race")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.create("prize", str(i).encode() * 1000), range(8)))
    assert sum(won) == 1
    assert store.read("prize") == str(won.index(True)).encode() * 1000


def test_faults_lose_and_double_nothing(server):
    root = "s3://bucket/faulty"
    segments = write(root, 4)
    server.rate, server.faults = 0.08, 0
    for _ in range(20):
        try:
            output = Output.open(root, provenance("faulty"))
            for i, segment in enumerate(segments):
                output.commit(segment, make_rows(segment, 1 + i % 2, accepted=i % 3 > 0))
            publish(root)
        except OutputError:
            continue
        break
    server.rate = 0.0
    assert server.faults > 0
    finalise(output.store)
    assert_holds(neuface_ray.open(root), expected(segments))
    assert verify(root).sound


def test_a_put_that_the_service_could_not_decide_on_is_repeated(server):
    store = open_store("s3://bucket/conflict")
    server.conflicts = 3
    assert store.create("name", b"1")
    server.conflicts = 3
    assert not store.create("name", b"2")
    assert (store.read("name"), server.conflicts) == (b"1", 0)


CREATOR = """
import sys
from neuface_ray.dataset.storage import open_store
store = open_store(sys.argv[1])
store.exists("name")  # connects
print("ready", flush=True)
sys.stdin.readline()
print("won" if store.create("name", sys.argv[2].encode() * int(sys.argv[3])) else "lost", flush=True)
"""


def creators(root: str, size: int, letters: str) -> dict[str, subprocess.Popen]:
    """Processes that stand ready to create ``name`` with ``size`` bytes of their letter."""
    found = {}
    for letter in letters:
        command = [sys.executable, "-c", CREATOR, root, letter, str(size)]
        found[letter] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for process in found.values():
        assert process.stdout.readline() == "ready\n"
    return found


def start(processes: dict[str, subprocess.Popen]) -> None:
    for process in processes.values():
        process.stdin.write("go\n")
        process.stdin.flush()


def test_killed_creators_leave_nothing_or_everything(server):
    """Four at once, of which two are killed in the middle; then one more comes."""
    processes = creators("s3://bucket/killed", 10**6, "abcd")
    start(processes)
    time.sleep(0.02)
    for letter in "ab":
        processes[letter].kill()
    said = {letter: process.communicate(timeout=60)[0] for letter, process in processes.items()}
    winners = [letter for letter, answer in said.items() if answer == "won\n"]
    store = open_store("s3://bucket/killed")
    assert store.exists("name"), "two creators lived"
    assert len(winners) <= 1
    assert not store.create("name", b"late")
    assert store.read("name") in {letter.encode() * 10**6 for letter in winners or "ab"}


def test_uploads_that_killed_writers_left_are_ended(server):
    client = boto3.client("s3")
    for key in ("uploads/mine/x", "uploads/other/x"):
        client.create_multipart_upload(Bucket="bucket", Key=key)
    processes = creators("s3://bucket/uploads/mine", 120 << 20, "a")  # so large that it is uploaded in parts
    start(processes)
    process = processes["a"]
    while len(uploads(client)) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    store = open_store("s3://bucket/uploads/mine")
    assert not store.exists("name")
    store.end_abandoned_uploads(older_than_s=1e12)
    assert len(uploads(client)) == 3
    store.open_for_writing()
    assert uploads(client) == ["uploads/other/x"]


def uploads(client) -> list[str]:
    return [upload["Key"] for upload in client.list_multipart_uploads(Bucket="bucket").get("Uploads", [])]


@pytest.mark.parametrize("rate", [0.0, 0.05])
def test_a_deletion_on_s3_also_among_faults(server, rate):
    root, faults = f"s3://bucket/deletion{rate}", server.faults
    segments = write(root, 4, quarantined=1)
    publish(root)
    late = make_segment(9, "seq0", person="person0")
    Output.open(root, provenance("late")).commit(late, make_rows(late))
    server.rate = rate
    for _ in range(20):
        try:
            delete(root, person="person0")
        except OutputError:
            assert rate
            continue
        break
    server.rate = 0.0
    assert (server.faults > faults) is (rate > 0)
    store, output = open_store(root), Output.open(root, provenance("again"))
    assert set(output.outcomes([*segments, late]).values()) == {"committed", "deleted"}
    assert output.pending([*segments, late]) == []
    assert not output.commit(late, make_rows(late))
    for name in store.names():
        data = store.read(name)
        assert b"person0" not in data, name
        assert data[:4] != b"PAR1" or "person0" not in str(pq.read_table(io.BytesIO(data)).to_pylist()), name
    assert neuface_ray.open(root).totals()["segments"] == {"committed": 2, "deleted": 4}
    assert verify(root).sound
