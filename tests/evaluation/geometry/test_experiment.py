"""The geometry evaluation from the command line, small, with an encoder that knows nothing."""

import json

import numpy as np
import pytest
import torch
import trimesh

from jobs.evaluate import main
from neuface_ray.errors import UsageError
from neuface_ray.evaluation.geometry.experiment import turning_path
from neuface_ray.evaluation.geometry.settings import GeometryEvaluation
from neuface_ray.evaluation.scan_benchmark import MEAN_HEAD
from neuface_ray.heads import load_head
from neuface_ray.methods.encoder.network import CompactEncoder
from neuface_ray.networks.weight_file import save_network


@pytest.fixture(scope="module")
def head():
    return load_head()


def test_report_criteria_and_exit_code(tmp_path, head, capsys):
    torch.manual_seed(0)
    weights, folder = tmp_path / "encoder.safetensors", tmp_path / "scans"
    save_network(CompactEncoder(head.id), weights, {})
    folder.mkdir()
    with torch.no_grad():
        vertices = head(torch.tensor([1.2, -1.0, 1.0, 0.8])).numpy()
    trimesh.Trimesh(1000 * vertices, head.faces.numpy(), process=False).export(folder / "person.ply")
    trimesh.creation.icosphere(subdivisions=1).export(folder / "ball.ply")
    settings = {
        "methods": "[encoder,direct_fitting,neuface,lvd]",
        "scans": folder,
        "identities": 1,
        "size": 192,
        "yaws": "[0,40]",
        "together": "[0,40]",
        "frames": 3,
        "points": 200,
        "workers": 1,
        "weights": weights,
        "neuface.fit.iterations": 2,
        "direct_fitting.steps": 3,
        "direct_fitting.pose_steps": 2,
    }
    output = tmp_path / "report"
    assert (
        main(["evaluation=geometry", f"output={output}", *(f"geometry.{key}={value}" for key, value in settings.items())]) == 4
    )
    printed = capsys.readouterr().out
    report = json.loads((output / "report.json").read_text())
    assert [criterion["name"] for criterion in report["criteria"]] == ["D1", "D2", "D3"]
    assert "D1 FAIL" in printed
    assert "scan ball" in report["facts"]["left out"]
    assert (output / "heads.png").stat().st_size > 1000
    for name in ("scans", "synthetic"):
        lines = report["tables"][f"Scan to mesh, mm: {name}"]
        seen = {(line["method"], line["seen"]): line for line in lines}
        assert len(seen) == 1 + 3 + 2 + 3 + 2
        assert [seen[name, "one view"]["n"] for name in ("encoder", "direct_fitting", "neuface", "lvd")] == [2, 2, 2, 2]
        assert seen["neuface", "turning head"]["n"] == 1
        assert all(line["failed"] == 0 for line in lines)
        # LVD gives vertices, no parameters.
        assert 0.1 < seen["lvd", "views together"]["similarity inner mean"] < 5
        mean_head, bare = seen[MEAN_HEAD, ""], seen["encoder", "one view"]
        assert bare["similarity inner mean"] == pytest.approx(mean_head["similarity inner mean"], abs=0.2)
        assert 0.2 < mean_head["similarity inner mean"] < mean_head["metric inner mean"] + 0.05


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"methods": ["encoder"]}, "neuface"),
        ({"identities": 0}, "nothing to evaluate"),
        ({"together": [10.0]}, "together"),
        ({"yaws": [50.0], "together": [50.0]}, "turn_deg"),
        ({"textures": "/nowhere"}, "geometry.textures=/nowhere"),
    ],
)
def test_wrong_usage_is_named(changed, message):
    with pytest.raises(UsageError, match=message):
        GeometryEvaluation(**changed).check()
    GeometryEvaluation().check()


def test_the_path_of_a_turning_head():
    path = np.array(turning_path(60, 40.0))
    assert path.shape == (60, 2)
    assert np.abs(path[:, 0]).max() == pytest.approx(40, abs=0.1)
    assert path[0].tolist() == [0, 0]
    assert np.abs(np.diff(path, axis=0)).max() < 5
