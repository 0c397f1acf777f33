"""What is compared when a dataset is continued, on real descriptors: written, edited as other versions would have, opened."""

from __future__ import annotations

import json

import pytest

from neuface_ray.dataset import Output, finalise
from neuface_ray.dataset.descriptor import differences, make_descriptor
from neuface_ray.dataset.verify import verify
from neuface_ray.errors import UsageError
from neuface_ray.renamed import KEYS, METHODS
from tests.dataset.made import provenance, write


def edit(folder, **changes) -> None:
    """Writes the descriptor with other values; None takes a key out."""
    path = folder / "dataset.json"
    descriptor = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in descriptor.items() if value is not None}))


def method(name: str, model_hashes: dict | None = None, **sections) -> dict:
    """Changes of ``provenance`` for a method that is chosen by ``annotator.name``."""
    return {"annotator": name, "config": {"annotator": {"name": name, **sections}}, "model_hashes": model_hashes or {}}


def test_another_version_of_the_program_continues(tmp_path):
    segments = write(tmp_path, 2)
    edit(tmp_path, code_version="0.0.1", config_hash="0" * 16, created="2020-01-01T00:00:00Z", libraries={"torch": "1"})
    output = Output.open(str(tmp_path), provenance("again", code_version="9+abcdef"))
    assert output.pending(segments) == []
    assert finalise(output.store)["code_version"] == "0.0.1"
    assert verify(str(tmp_path)).sound


@pytest.mark.parametrize(
    ("stored", "method_version", "line"),
    [
        (
            {"shared": 2, "method": 1},
            1,
            r"made by a later version of the shared media, gate and head code: its results changed",
        ),
        ({"shared": 0, "method": 1}, 1, r"made by an earlier version of the shared .* \(rows_version.shared: 0 there, 1 now\)"),
        ({"shared": 1, "method": 1}, 2, r"made by an earlier version of the method direct: its results changed"),
        (None, 2, r"made by an earlier version of the method direct.* \(rows_version.method: 1 there, 2 now\)"),
    ],
)
def test_a_version_that_gives_other_results_is_refused(tmp_path, stored, method_version, line):
    write(tmp_path, 1)
    edit(tmp_path, rows_version=stored)
    with pytest.raises(UsageError, match=line):
        Output.open(str(tmp_path), provenance(method_version=method_version))


def test_a_descriptor_without_rows_version_is_of_the_first(tmp_path):
    write(tmp_path, 1)
    assert json.loads((tmp_path / "dataset.json").read_text())["rows_version"] == {"shared": 1, "method": 1}
    edit(tmp_path, rows_version=None)
    Output.open(str(tmp_path), provenance())


def test_a_key_that_did_not_exist_counts_as_its_former_value(tmp_path):
    write(tmp_path, 1)
    grown = {"fit": {"steps": 10, "robust": 0.5, "sizes": (1, 2)}}
    with pytest.raises(UsageError, match=r"config\.fit\.robust: absent there, 0.5 now"):
        Output.open(str(tmp_path), provenance(config=grown))
    former = {"fit": {"steps": 99, "robust": 0.0, "sizes": (1, 2)}}
    with pytest.raises(UsageError, match=r"differently:\n  config\.fit\.robust: 0.0 there, 0.5 now\n\w"):
        Output.open(str(tmp_path), provenance(config=grown), former=former)
    grown["fit"]["robust"] = 0.0
    Output.open(str(tmp_path), provenance(config=grown), former=former)


def test_a_key_that_is_gone_is_a_difference(tmp_path):
    write(tmp_path, 1)
    edit(tmp_path, config={"fit": {"steps": 10, "gone": None}})
    with pytest.raises(UsageError, match=r"config\.fit\.gone: None there, absent now"):
        Output.open(str(tmp_path), provenance())


def test_sections_of_methods_that_were_not_chosen_do_not_count():
    stored = make_descriptor(provenance(**method("a", a={"steps": 1}, b={"steps": 2}, gone={"x": 1})))
    assert differences(stored, make_descriptor(provenance(**method("a", a={"steps": 1})))) == []
    wanted = make_descriptor(provenance(**method("a", a={"steps": 3})))
    assert differences(stored, wanted) == ["config.annotator.a.steps: 1 there, 3 now"]


def test_another_method_is_named_with_the_way_to_continue():
    stored = make_descriptor(provenance(**method("a", {"head": "1", "a": "2"}, a={"steps": 1}, b={"steps": 2})))
    other = provenance(**method("b", {"head": "1", "b": "3"}, b={"steps": 3}), method_version=2)
    line = "made with annotator.name=a, not b; to continue it set annotator.name=a (or --config a)"
    assert differences(stored, make_descriptor(other), {"annotator": {"name": "b", "b": {"steps": 3}}}) == [line]
    head = provenance(**method("b", {"head": "4", "b": "3"}, b={"steps": 3}))
    assert differences(stored, make_descriptor(head)) == [line, "model_hashes.head: '1' there, '4' now"]


def test_renamed_methods_and_keys_continue(monkeypatch):
    stored = make_descriptor(provenance(**method("fitting", {"fitting": "2"}, fitting={"rate": 1, "steps": 2}, net={"x": 1})))
    wanted = make_descriptor(provenance(**method("direct", {"direct": "2"}, direct={"lr": 1, "steps": 2})))
    assert differences(stored, wanted) != []
    monkeypatch.setitem(METHODS, "fitting", "direct")
    monkeypatch.setitem(KEYS, "annotator.fitting", "annotator.direct")
    monkeypatch.setitem(KEYS, "annotator.direct.rate", "annotator.direct.lr")
    assert differences(stored, wanted) == []
    wanted["config"]["annotator"]["direct"]["lr"] = 5
    assert differences(stored, wanted) == ["config.annotator.direct.lr: 1 there, 5 now"]
