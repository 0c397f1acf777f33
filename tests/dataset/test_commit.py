import json
import multiprocessing
import os
import pickle
import shutil

import pytest

import neuface_ray
from neuface_ray.dataset import Output, finalise, publish
from neuface_ray.dataset.verify import verify
from neuface_ray.errors import DataError, UsageError
from tests.dataset.dying import every_crash
from tests.dataset.made import assert_holds, expected, make_rows, make_segment, provenance, write


def test_what_is_committed_is_read_and_done(tmp_path):
    segments = write(tmp_path, 4, quarantined=1)
    output = Output.open(str(tmp_path), provenance("second"))
    assert output.pending(segments) == []
    assert output.pending(segments, retry_quarantined=True) == segments[4:]
    assert output.outcomes() == {s.segment_id: "committed" if i < 4 else "quarantined" for i, s in enumerate(segments)}
    assert [output.is_done(s.segment_id) for s in segments] == [True] * 4 + [False]
    assert_holds(neuface_ray.open(tmp_path), expected(segments, 4))
    more = make_segment(9)
    assert output.pending([more, *segments]) == [more]


def test_first_commit_wins_also_after_publishing(tmp_path):
    (segment,) = write(tmp_path, 1)
    late = Output.open(str(tmp_path), provenance("late"))
    assert not late.commit(segment, make_rows(segment, 2, run_id="late"))
    assert_holds(neuface_ray.open(tmp_path), expected([segment]))
    zombie = pickle.loads(pickle.dumps(late))
    zombie.is_done = lambda segment_id: False  # it looked before the other one committed, and slept until now
    publish(str(tmp_path))
    assert not late.commit(segment, make_rows(segment, 2, run_id="late"))
    assert zombie.commit(segment, make_rows(segment, 2, run_id="late"))
    dataset = neuface_ray.open(tmp_path)
    assert_holds(dataset, expected([segment]))
    assert {problem.code for problem in verify(str(tmp_path)).problems} == {"late_commit"}
    publish(str(tmp_path))
    assert verify(str(tmp_path)).sound
    assert_holds(dataset, expected([segment]))


def test_a_segment_without_clips_is_done(tmp_path):
    output, segment = Output.open(str(tmp_path), provenance()), make_segment(0)
    assert output.commit(segment, [])
    assert output.is_done(segment.segment_id)
    finalise(output.store)
    assert len(neuface_ray.open(tmp_path)) == 0
    assert verify(str(tmp_path)).sound


def test_attempts_are_counted_per_run_and_forgotten_at_the_end(tmp_path):
    first, segment = Output.open(str(tmp_path), provenance("a")), make_segment(0)
    second = Output.open(str(tmp_path), provenance("b"))
    for expected_count in range(3):
        assert first.attempts(segment.segment_id) == expected_count
        first.begin_attempt(segment.segment_id)
    second.begin_attempt(segment.segment_id)
    second.begin_attempt(make_segment(1).segment_id)
    assert (first.attempts(segment.segment_id), second.attempts(segment.segment_id)) == (3, 1)
    assert first.quarantine(segment, "annotate", error="worker_died", message="killed three times")
    assert (first.attempts(segment.segment_id), second.attempts(segment.segment_id)) == (0, 0)
    assert second.attempts(make_segment(1).segment_id) == 1
    row = neuface_ray.open(tmp_path).quarantine().to_pylist()[0]
    assert (row["attempts"], row["error"], row["stage"], row["traceback"]) == (3, "worker_died", "annotate", "")


def test_retries_of_quarantined_segments(tmp_path):
    output, segment = Output.open(str(tmp_path), provenance()), make_segment(0)
    try:
        raise DataError("no face at s3://k:secret@b/x", code="no_face")
    except DataError as error:
        output.begin_attempt(segment.segment_id)
        output.quarantine(segment, "prepare", error)
    publish(str(tmp_path))
    row = neuface_ray.open(tmp_path).quarantine().to_pylist()[0]
    assert (row["error"], row["message"], row["attempts"]) == ("no_face", "no face at s3://b/x", 1)
    assert "test_retries" in row["traceback"]
    assert "secret" not in str(row)

    again = Output.open(str(tmp_path), provenance("again"))
    again.begin_attempt(segment.segment_id)
    assert again.quarantine(segment, "fit", ValueError("worse"))
    dataset = neuface_ray.open(tmp_path)
    assert [(r["error"], r["attempts"]) for r in dataset.quarantine().to_pylist()] == [("ValueError", 2)]
    publish(str(tmp_path))
    assert [(r["error"], r["attempts"]) for r in dataset.quarantine().to_pylist()] == [("ValueError", 2)]

    assert again.commit(segment, make_rows(segment, accepted=False))
    for _ in range(2):
        dataset = neuface_ray.open(tmp_path)
        assert dataset.quarantine().num_rows == 0
        assert_holds(dataset, expected([segment]))
        assert verify(str(tmp_path)).sound
        publish(str(tmp_path))
    assert not again.quarantine(segment, "fit", ValueError("late worker"))
    assert again.outcomes() == {segment.segment_id: "committed"}


def test_repeated_clip_ids_are_refused(tmp_path):
    output, segment = Output.open(str(tmp_path), provenance()), make_segment(0)
    with pytest.raises(DataError, match="repeated"):
        output.commit(segment, make_rows(segment) * 2)
    assert output.outcomes() == {}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"config": {"fit": {"steps": 20}}}, "config.fit.steps: 10 there, 20 now"),
        ({"head_model": "other/1/2"}, "head_model: 'test_head/1/0123456789ab' there, 'other/1/2' now"),
        ({"annotator": "other"}, "annotator: 'direct' there, 'other' now"),
        ({"method_version": 2}, "made by an earlier version of the method direct: its results changed"),
        ({"model_hashes": {"encoder": "ab"}}, "model_hashes.encoder: absent there, 'ab' now"),
        ({"seed": 1}, "seed: 0 there, 1 now"),
    ],
)
def test_other_rows_are_refused_with_the_difference_or_written_beside(tmp_path, change, line):
    path = str(tmp_path / "out")
    write(path, 1)
    with pytest.raises(UsageError, match=line):
        Output.open(path, provenance(**change))
    for _ in range(2):
        assert Output.open(path, provenance(**change), on_change="new_version").path == f"{path}.v2"
    other = provenance(**(change | {"config": {"third": 3}}))
    assert Output.open(path, other, on_change="new_version").path == f"{path}.v3"
    assert Output.open(path, provenance(), on_change="new_version").path == path


def test_a_lost_descriptor_lets_no_other_rows_in(tmp_path):
    (segment,) = write(tmp_path, 1)
    finalise(str(tmp_path))
    for lost in (["dataset.json"], ["_descriptor.json"], ["dataset.json"]):
        for name in lost:
            (tmp_path / name).unlink()
        with pytest.raises(UsageError, match="seed: 0 there, 1 now"):
            Output.open(str(tmp_path), provenance(seed=1))
        assert Output.open(str(tmp_path), provenance()).pending([segment]) == []
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "_descriptor.json").unlink()
    for seed in (0, 1):
        with pytest.raises(UsageError, match="are lost"):
            Output.open(str(tmp_path), provenance(seed=seed))
    assert not (tmp_path / "dataset.json").exists()


def _open(path, seed, start, agreed):
    start.wait()
    try:
        Output.open(path, provenance(seed=seed))
    except UsageError:
        return
    agreed.put(seed)


def test_of_runs_that_begin_a_dataset_at_once_those_that_agree_go_on(tmp_path):
    context = multiprocessing.get_context("fork")
    for number in range(5):
        path, start, agreed = str(tmp_path / str(number)), context.Barrier(6), context.SimpleQueue()
        runs = [context.Process(target=_open, args=(path, i % 3, start, agreed)) for i in range(6)]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
            assert run.exitcode == 0
        seeds = [agreed.get() for _ in range(2)]
        assert agreed.empty()
        assert seeds[0] == seeds[1] == json.loads((tmp_path / str(number) / "dataset.json").read_text())["seed"]


def test_secrets_do_not_count_as_a_change(tmp_path):
    Output.open(str(tmp_path), provenance(config={"token": "a", "source": "s3://k:1@b/x"}))
    Output.open(str(tmp_path), provenance(config={"token": "b", "source": "s3://k:2@b/x"}))
    assert "s3://b/x" in (tmp_path / "dataset.json").read_text()


def test_a_commit_killed_at_any_change_is_whole_or_absent(tmp_path):
    segment, wanted = make_segment(0), expected([make_segment(0)])
    rows = make_rows(segment, accepted=False)

    def attempt(step):
        root = str(tmp_path / str(step))
        output = Output.open(root, provenance())
        output.begin_attempt(segment.segment_id)
        return lambda: output.commit(segment, rows)

    seen = set()

    def recover(step):
        root = str(tmp_path / str(step))
        output = Output.open(root, provenance("recover"))
        done = output.is_done(segment.segment_id)
        seen.add(done)
        dataset = neuface_ray.open(root)
        assert len(dataset) == (wanted["frames"].num_rows if done else 0)
        assert output.commit(segment, rows) is not done
        finalise(output.store)
        assert_holds(neuface_ray.open(root), wanted)
        for name in os.listdir(f"{root}/_tmp"):
            os.utime(f"{root}/_tmp/{name}", (0, 0))
        assert verify(root, repair=True).sound
        assert [name for _, _, names in os.walk(f"{root}/_attempts") for name in names] == []
        shutil.rmtree(root)

    assert every_crash(attempt, recover) >= 4
    assert seen == {True, False}


def _commit_all(path, run_id, segments, start, wins):
    output = Output.open(path, provenance(run_id))
    start.wait()
    wins.put([output.commit(s, make_rows(s, 1 + i % 2, accepted=i % 3 > 0, run_id=run_id)) for i, s in enumerate(segments)])


def test_concurrent_runs_commit_each_segment_once(tmp_path):
    segments = [make_segment(i, f"seq{i % 2}") for i in range(12)]
    context = multiprocessing.get_context("fork")
    start, wins = context.Barrier(4), context.SimpleQueue()
    runs = [context.Process(target=_commit_all, args=(str(tmp_path), f"run{r}", segments, start, wins)) for r in range(4)]
    for run in runs:
        run.start()
    won = [wins.get() for _ in runs]
    for run in runs:
        run.join()
        assert run.exitcode == 0
    assert [sum(column) for column in zip(*won, strict=True)] == [1] * len(segments)
    assert_holds(neuface_ray.open(tmp_path), expected(segments))
    assert verify(str(tmp_path)).sound
