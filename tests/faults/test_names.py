"""Names that break shells, CSV files and terminals go through the whole command, into the dataset and out of it again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import neuface_ray
from jobs.annotate import main
from neuface_ray.dataset.__main__ import main as dataset_main
from neuface_ray.dataset.schema import TABLES
from neuface_ray.dataset.verify import verify
from tests.conftest import FAST_FIT

FILES = ("two\nlines.mp4", "später 日本 🙂.mp4", " $(reboot); '\"\\ %20#?.mp4", "n" * 200 + ".mp4", "-rf.mp4")
PERSONS = ("Zoë\nO'Neil", "日" * 300, "*", "p" * 300, "../../etc")


def test_strange_names(ray_cluster, tiny_video: Path, tmp_path: Path, capsys):
    folder, output = tmp_path / "in \n put=1", tmp_path / "out put\n2"
    folder.mkdir()
    for name in FILES:
        shutil.copy(tiny_video, folder / name)
    manifest = folder / "list.jsonl"
    rows = [
        {"uri": name, "person": person, "sequence": f"{person}/{'s' * 300}"}
        for name, person in zip(FILES, PERSONS, strict=True)
    ]
    manifest.write_text("\n".join(map(json.dumps, [*rows, {"uri": "gone\n.mp4", "person": "nobody"}])))

    assert main([f"input={manifest}", f"output={output}", *FAST_FIT, "media.stride=4"]) == 3
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1].startswith("exit 3: 1 of 6 segments are in quarantine")
    dataset = neuface_ray.open(str(output))
    clips = dataset.table("clips").to_pylist()
    assert sorted(row["person"] for row in clips) == sorted(PERSONS)
    assert {Path(row["source_uris"][0]).name for row in clips} == set(FILES)
    assert all(len(row["sequence_id"]) > 300 for row in clips)
    (lost,) = dataset.table("quarantine").to_pylist()
    assert (lost["error"], Path(lost["source_uri"]).name) == ("not_found", "gone\n.mp4")
    assert verify(str(output)).sound

    for person in PERSONS[:2]:
        assert dataset_main(["delete", str(output), f"person={person}"]) == 0
    left = neuface_ray.open(str(output))
    for table in TABLES:
        columns = left.table(table).to_pydict()
        assert not set(PERSONS[:2]) & set(columns.get("person", ()))
    assert sorted(row["person"] for row in left.table("clips").to_pylist()) == sorted(PERSONS[2:])
    assert verify(str(output)).sound
    assert main([f"input={manifest}", f"output={output}", *FAST_FIT, "media.stride=4"]) == 3, "the deleted do not come back"
    assert len(neuface_ray.open(str(output)).table("clips")) == 3
