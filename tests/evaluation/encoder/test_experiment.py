"""The encoder's evaluation from the command line, with an encoder that knows nothing."""

import json

import cv2
import numpy as np
import pytest
import torch

from jobs.evaluate import main
from neuface_ray.evaluation.encoder.experiment import annotated_errors, face_options, true_landmarks, turn_between_deg, yaw_deg
from neuface_ray.evaluation.encoder.settings import EncoderEvaluation
from neuface_ray.heads import load_head
from neuface_ray.media.config import MediaConfig
from neuface_ray.media.crop import IBUG_FROM_MEDIAPIPE
from neuface_ray.media.detect import FaceDetector
from neuface_ray.methods.encoder.network import CompactEncoder
from neuface_ray.networks.weight_file import save_network
from neuface_ray.synthesis.faces import make_face
from neuface_ray.synthesis.renderer import Renderer


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    save_network(CompactEncoder(load_head().id), path, {})
    return path


@pytest.fixture(scope="module")
def photographs(portrait, tmp_path_factory):
    """A face with its points beside it, a face without, a wall, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("photographs")
    cv2.imwrite(str(folder / "annotated.png"), portrait[..., ::-1])
    with FaceDetector(MediaConfig()) as detector:
        points = detector.find(portrait)[0].mesh[IBUG_FROM_MEDIAPIPE] + 0.5
    rows = "\n".join(f"{x} {y}" for x, y in points)
    (folder / "annotated.pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
    cv2.imwrite(str(folder / "plain.png"), portrait[:, ::-1, ::-1])
    cv2.imwrite(str(folder / "wall.png"), np.full((64, 64, 3), 90, np.uint8))
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def evaluate(output, weights, *more):
    return main(["evaluation=encoder", f"output={output}", f"encoder.weights={weights}", "encoder.workers=1", *more])


def test_photographs_and_synthetic_faces(tmp_path, weights, photographs, capsys):
    methods = "encoder.methods=[encoder,direct_fitting]"
    size = ("encoder.synthetic=5", "encoder.size=160", "encoder.direct_fitting.steps=20")
    assert evaluate(tmp_path, weights, methods, f"encoder.photos=[{photographs}]", *size) == 4
    printed = capsys.readouterr().out
    assert "E1 FAIL" in printed
    assert "E2 FAIL" in printed
    report = json.loads((tmp_path / "report.json").read_text())
    assert (tmp_path / "report.md").read_text() in printed
    assert [criterion["name"] for criterion in report["criteria"]] == ["E1", "E2"]
    lines = {line["method"]: line for line in report["tables"]["Photographs"]}
    assert lines["encoder"]["photographs"] == 4
    assert lines["encoder"]["with a face"] == lines["encoder"]["detected n"] == 2
    assert lines["encoder"]["annotated 68 n"] == 1
    assert lines["direct_fitting"]["detected median"] < 4 < lines["encoder"]["detected median"]
    assert lines["direct_fitting"]["inner 51 median"] < lines["encoder"]["inner 51 median"]
    notes = {row["photograph"].split("/")[-1]: row.get("note") for row in report["tables"]["Photographs one by one"]}
    assert notes["broken.jpg"] is not None
    by_yaw = [line for name, table in report["tables"].items() if name.startswith("Synthetic") for line in table]
    whole = {line["method"]: line for line in by_yaw if line["yaw"] == "all"}
    assert whole["encoder"]["faces"] == 5
    assert whole["direct_fitting"]["found_nme mean"] < whole["encoder"]["found_nme mean"]
    assert whole["encoder"]["neutral similarity mm"] == pytest.approx(whole["encoder"]["mean_head similarity mm"], rel=0.2)


def test_without_photographs_there_is_no_e1_and_every_process_count_agrees(tmp_path, weights):
    reports = []
    for workers in (1, 2):
        more = ("encoder.synthetic=2", "encoder.size=160", f"encoder.workers={workers}")
        evaluate(tmp_path / str(workers), weights, *more)
        reports.append(json.loads((tmp_path / str(workers) / "report.json").read_text()))
    assert [criterion["name"] for criterion in reports[0]["criteria"]] == ["E2"]
    assert reports[0]["tables"] == reports[1]["tables"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["encoder.methods=[neuface]"], "must name encoder"),
        (["encoder.methods=[encoder,magic]"], "magic"),
        (["encoder.synthetic=0"], "nothing to evaluate"),
        (["encoder.photos=[/nowhere]"], "nowhere"),
        (["encoder.weights=/nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_wrong_usage_is_named(tmp_path, weights, more, message, capsys):
    assert evaluate(tmp_path, weights, *more) == 2
    assert message in capsys.readouterr().err


def test_true_points_lie_where_the_detector_finds_them(portrait):
    """The picture, its truth in pixels and the frontal eye distance agree."""
    head = load_head()
    face = make_face(Renderer(head), face_options(EncoderEvaluation(size=256)), 5, 3)
    points, eyes = true_landmarks(head, face, 256)
    with FaceDetector(MediaConfig(max_faces=1)) as detector:
        found = detector.find(face.image)[0].mesh
    assert np.linalg.norm(found - points, axis=-1).mean() < 0.08 * eyes
    seen = np.linalg.norm(points[33] - points[263])
    assert seen == pytest.approx(eyes * np.cos(np.radians(yaw_deg(face.pose))), rel=0.15)


def test_angles():
    pose = np.zeros((2, 15))
    pose[0, 1], pose[1, 1] = 0.3, -0.2
    assert yaw_deg(pose[0]) == pytest.approx(np.degrees(0.3))
    assert turn_between_deg(pose[0], pose[1]) == pytest.approx(np.degrees(0.5))


def test_annotations_of_another_face_do_not_count():
    truth = np.random.default_rng(0).uniform(0, 100, (68, 2))
    eyes = np.linalg.norm(truth[36] - truth[45])
    shifted = annotated_errors(truth + np.array([eyes / 100, 0]), truth)
    assert shifted["nme68"] == pytest.approx(1)
    assert shifted["nme51"] == pytest.approx(1)
    assert annotated_errors(truth + np.array([2 * eyes, 0]), truth) == {}
