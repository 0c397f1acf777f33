"""A method of another package is trained, resumed, used, evaluated and documented without a line changed in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import neuface_ray

ROOT = Path(__file__).parents[2]
FOREIGN = Path(__file__).parent / "foreign"


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Runs a job with the toy's folder on the path, in a folder of its own, and returns what it printed."""
    folder = tmp_path_factory.mktemp("elsewhere")
    paths = [str(ROOT), str(FOREIGN), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}

    def run(job: str, *arguments: str, code: int = 0) -> str:
        line = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *arguments]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_help_and_refusals_know_it(command):
    text = command("annotate", "--help", "annotator.name=toy")
    assert "annotator.toy.weights: str | None = null" in text
    assert "* toy: guesses identity from colour" in text
    assert "toy.strength: float = 1.0" in command("train", "--help", "recipe=toy")
    assert "with annotator.name=toy (guesses identity from colour):" in command("annotate", "--help-all")
    refusal = command("annotate", "input=a", "output=b", "annotator.name=toy", "annotator.toy.wights=c", code=2)
    assert "did you mean 'annotator.toy.weights'" in refusal
    assert "choose from" in command("annotate", "input=a", "output=b", "annotator.name=tyo", code=2)


@pytest.mark.slow
def test_it_is_trained_resumed_used_and_evaluated(command, single_views, tiny_video, tmp_path):
    trained, dataset, report = tmp_path / "trained", tmp_path / "dataset", tmp_path / "report"
    small = ("batch=2", "shuffle=4", "checkpoint_steps=1", "validate_steps=1", "warmup_steps=1", "log_steps=1")
    training = ("recipe=toy", "steps=2", f"data=[{single_views}]", f"output={trained}", "validation_fraction=0.3", *small)
    assert "validation shape_error" in command("train", *training)
    weights = trained / "model.safetensors"
    card = (trained / "MODEL_CARD.md").read_text()
    assert "A network that guesses the identity of a face from its colour." in card
    assert '"toy": {' in card
    assert "lvd" not in card

    before = load_file(weights)
    weights.unlink()
    (trained / "summary.json").unlink()
    refusal = command("train", *training, "toy.strength=2", code=2)
    assert "belongs to another training" in refusal
    command("train", *training)
    assert all((before[name] == value).all() for name, value in load_file(weights).items())

    annotator = ("annotator.name=toy", f"annotator.toy.weights={weights}", "gate.max_nme=100", "ray.actors=1")
    command("annotate", f"input={tiny_video}", f"output={dataset}", *annotator)
    assert len(neuface_ray.open(dataset).frames(["clip_id"])) == 12
    descriptor = json.loads((dataset / "dataset.json").read_text())
    assert descriptor["annotator"] == "toy"
    assert descriptor["config"]["annotator"] == {"name": "toy", "toy": {"weights": str(weights)}}

    sizes = {"identities": 1, "size": 160, "yaws": "[0,40]", "together": "[0,40]", "frames": 0, "points": 100, "workers": 1}
    methods = ("geometry.methods=[encoder,neuface,toy]", f"geometry.toy.weights={weights}", "geometry.neuface.fit.iterations=1")
    settings = [f"geometry.{name}={value}" for name, value in sizes.items()]
    command("evaluate", "evaluation=geometry", f"output={report}", *methods, *settings, code=4)
    lines = json.loads((report / "report.json").read_text())["tables"]["Scan to mesh, mm: synthetic"]
    assert {line["method"] for line in lines if line["seen"] == "views together"} >= {"toy", "encoder", "neuface"}
