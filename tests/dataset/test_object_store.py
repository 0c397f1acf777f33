"""The protocol on an S3-compatible server that runs in this process, undisturbed and with faults."""

import concurrent.futures

import pytest

import neuface_ray
from neuface_ray.dataset import Output, OutputError, finalise, publish
from neuface_ray.dataset.storage import open_store
from neuface_ray.dataset.verify import verify
from tests.dataset.made import assert_holds, comparable, expected, make_rows, provenance, write
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
