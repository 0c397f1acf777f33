import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuface_ray.dataset.rows import segment_row
from neuface_ray.dataset.schema import COMMITTED, DELETED, QUARANTINED
from neuface_ray.dataset.staged import Outcome, check_segment_id, decode, encode, parse_name, staged_name
from neuface_ray.dataset.storage import OutputError
from neuface_ray.errors import UsageError
from tests.dataset.made import make_rows, make_segment


@pytest.fixture(scope="module")
def encoded():
    segment = make_segment(0)
    (rows,) = make_rows(segment)
    tables = rows | segment_row(segment, COMMITTED, rows, 1, "run")
    return tables, encode(segment.segment_id, Outcome(COMMITTED), tables)


def test_round_trip(encoded):
    tables, data = encoded
    header, found = decode(data, "x")
    assert header["outcome"] == [COMMITTED, 0]
    assert found.keys() == tables.keys()
    assert found["frames"].equals(tables["frames"])
    assert len(found["segments"]["content_hash"][0].as_py()) == 64


@given(st.data())
def test_any_flipped_bit_or_lost_byte_is_noticed(encoded, data):
    good = encoded[1]
    position = data.draw(st.integers(0, len(good) - 1))
    flipped = good[:position] + bytes([good[position] ^ (1 << data.draw(st.integers(0, 7)))]) + good[position + 1 :]
    for bad in (flipped, good[:position], good + b"\0"):
        with pytest.raises(OutputError, match="is damaged"):
            decode(bad, "x")


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,119}", fullmatch=True), st.integers(0, 999_999))
def test_names_are_deterministic_and_tell_the_outcome(segment_id, attempts):
    for outcome in (Outcome(COMMITTED), Outcome(QUARANTINED, attempts)):
        name = staged_name(segment_id, outcome)
        assert name == staged_name(str(segment_id), Outcome(*outcome))
        assert parse_name(name) == (segment_id, outcome)
        assert not name.endswith(".parquet")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a.b", "-a", "x" * 121, "a\nb", "ü"])
def test_ids_that_are_no_file_names_are_refused(name):
    with pytest.raises(UsageError, match="segment_id"):
        check_segment_id(name)


def test_order_of_outcomes():
    order = [Outcome(QUARANTINED, 1), Outcome(QUARANTINED, 12), Outcome(COMMITTED, 3), Outcome(DELETED)]
    assert sorted([order[2], order[0], order[3], order[1]], key=lambda outcome: outcome.rank) == order
    assert Outcome(COMMITTED, 1).rank == Outcome(COMMITTED, 9).rank
    assert parse_name("_staged/ab/x.parquet") is None
