"""The comparison of NeuFace from the command line, small, with an encoder that knows nothing."""

import json
import re

import pytest
import torch

from jobs.evaluate import main
from neuface_ray.evaluation.neuface import variants
from neuface_ray.heads import load_head
from neuface_ray.methods.encoder.network import CompactEncoder
from neuface_ray.networks.weight_file import save_network

PICTURES = {"cvd_per_view", "motion_traces", "error_against_time", "stability_against_error", "gradient_maps"}


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def weights(head, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    save_network(CompactEncoder(head.id), path, {})
    return path


def arguments(folder, weights, **more):
    settings = {
        "sequences": 2,
        "frames": 8,
        "views": 2,
        "picture_px": 144,
        "workers": 1,
        "encoder.path": weights,
        "neuface.iterations": 2,
        "direct.steps": 3,
        "direct.pose_steps": 2,
        "low_pass": "[1.0]",
        "whole_sequences": 1,
        "curve_sequences": 1,
        "curve_iterations": "[1]",
        "curve_steps": "[2]",
    }
    return [
        "evaluation=neuface_claims",
        f"output={folder}",
        *(f"neuface_claims.{key}={value}" for key, value in {**settings, **more}.items()),
    ]


def test_the_comparison_reports_and_its_exit_code_says_whether_all_criteria_are_met(weights, tmp_path, capsys):
    code = main(arguments(tmp_path, weights))
    printed = capsys.readouterr()
    report = json.loads((tmp_path / "report.json").read_text())
    assert code == (0 if report["passed"] else 4)
    assert [criterion["name"] for criterion in report["criteria"]] == [*(f"N{n}" for n in range(1, 8)), "O1", "O2"]
    lines = [line for line in printed.out.splitlines() if re.match(r"[NO]\d (PASS|FAIL) .+: .+", line)]
    assert len(lines) == 9
    assert "fits: 100 %" in printed.err
    assert {path.stem for path in tmp_path.glob("*.png")} == PICTURES
    tables = report["tables"]
    truth = tables["Table 2: methods"][0]
    assert truth["method"] == "truth"
    assert truth["CVD mm"] == pytest.approx(0, abs=1e-3)
    against = {line["method"]: line for line in tables["Against the truth"]}
    assert against["truth"]["MPVE root mm"] == pytest.approx(0, abs=1e-3)
    assert against["truth"]["NME true %"] == pytest.approx(0, abs=1e-2)
    assert 0 < against["landmarks given"]["NME true %"] < 15
    assert {"truth", "landmarks given"} <= {line["method"] for line in tables["Movement"]}
    assert against[variants.DIRECT]["NME true %"] < against[variants.ENCODER]["NME true %"]
    rows = json.loads((tmp_path / "rows.json").read_text())["synthetic"]
    assert sum(row["method"] == variants.WHOLE for row in rows) == 1
    assert sum(row["method"] == variants.FULL for row in rows) == 2

    stored = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sequences-*/*.npz")}
    assert len(stored) == 2
    main(
        arguments(
            tmp_path, weights, whole_sequences=0, curve_sequences=0, curve_iterations="[]", curve_steps="[]", low_pass="[]"
        )
    )
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("sequences-*/*.npz")} == stored


def test_wrong_settings_and_missing_weights_are_named(weights, tmp_path, capsys):
    for change, message in (
        ({"views": 1}, "neuface_claims.views=1"),
        ({"landmarks": "guessed"}, "neuface_claims.landmarks='guessed'"),
        ({"picture_scale": 1.2}, "neuface_claims.picture_scale"),
        ({"encoder.path": tmp_path / "none.safetensors"}, "neuface_claims.encoder.path"),
    ):
        assert main(arguments(tmp_path, weights, **change)) == 2
        assert message in capsys.readouterr().err
