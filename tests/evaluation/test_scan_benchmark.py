import json

import cv2
import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from neuface_ray.errors import DataError, UsageError
from neuface_ray.evaluation import scan_benchmark as benchmark
from neuface_ray.evaluation import scans
from neuface_ray.geometry.closest_points import Surface
from neuface_ray.geometry.rays import PinholeCamera
from neuface_ray.media import MediaConfig
from neuface_ray.media.detect import FaceDetector
from neuface_ray.metrics.scan_to_mesh import MEDIAPIPE_SEVEN, region_near, scan_to_mesh


@pytest.fixture(scope="module")
def detect():
    with FaceDetector(MediaConfig(max_faces=1)) as detector:

        def find(image):
            faces = detector.find(image)
            return faces[0].mesh if faces else None

        yield find


@pytest.fixture(scope="module")
def truth(head):
    """Vertices in metres of a head that is clearly not the mean."""
    shape = torch.zeros(10)
    shape[:6] = torch.tensor([1.2, -1.0, 1.0, 0.8, -0.8, 1.0])
    with torch.no_grad():
        return head(shape).numpy()


@pytest.fixture(scope="module")
def scan(truth, head, detect, tmp_path_factory):
    """That head as a file in centimetres, z up, somewhere else; read and normalised."""
    folder = tmp_path_factory.mktemp("scans")
    turned = 100 * truth @ Rotation.from_euler("xyz", [90, 0, 8], degrees=True).as_matrix().T + [5, -20, 3]
    trimesh.Trimesh(turned, head.faces.numpy(), process=False).export(folder / "person.ply")
    (found,) = scans.list_scans(folder)
    assert found.name == "person"
    return scans.normalise(scans.read_scan(found), detect, 1000 * head.landmarks(head.template, "mediapipe478").numpy())


def test_normalised_scan_is_in_millimetres_in_the_head_frame(scan, truth, head):
    np.testing.assert_allclose(scan.vertices, 1000 * truth, atol=12)
    eyes = np.linalg.norm(np.diff(scan.landmarks[list(scans.OUTER_EYES)], axis=0))
    expected = head.landmarks(torch.from_numpy(truth), "mediapipe478").numpy()[list(scans.OUTER_EYES)]
    assert eyes == pytest.approx(1000 * np.linalg.norm(expected[0] - expected[1]), rel=0.06)


def test_surface_sample_lies_outside_near_the_nose(scan):
    points = scans.surface_sample(scan, 500)
    assert len(points) == 500
    assert np.linalg.norm(points - scan.landmarks[scans.NOSE_TIP], axis=-1).max() < 115
    assert Surface(scan.vertices, scan.faces).closest(points).distance.max() < 1e-6


def test_a_render_agrees_with_its_camera(scan):
    render = benchmark.render_scan(scan, 30)
    opencv = scan.vertices / 1000 @ render.camera.world_to_camera[:3, :3].T + render.camera.world_to_camera[:3, 3]
    pixels = opencv @ render.camera.intrinsics.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    empty = benchmark.render_scan(scan.moved(np.eye(3), np.array([5000.0, 0, 0])), 30)
    rows, columns = np.nonzero((render.image != empty.image).any(-1))
    assert columns.min() == pytest.approx(pixels[:, 0].min(), abs=2)
    assert columns.max() == pytest.approx(pixels[:, 0].max(), abs=2)
    assert rows.min() == pytest.approx(pixels[:, 1].min(), abs=2)
    nose = render.camera.world_to_camera[:3, :3] @ scan.landmarks[scans.NOSE_TIP]
    assert nose[0] > 0


def test_truth_beats_the_mean_head_and_failures_are_counted(scan, truth, head):
    points = scans.surface_sample(scan, 500)
    mean_head = benchmark.PredictedHead.of(head, head.template.numpy())
    reference = {"head": "a", "method": benchmark.MEAN_HEAD, "turn": "", **benchmark.score(scan, mean_head, points)}
    known = {"head": "a", "method": "truth", **benchmark.score(scan, benchmark.PredictedHead.of(head, truth), points)}
    failed = {key: float("nan") if isinstance(value, float) else value for key, value in known.items()} | {"method": "failure"}
    rows = [reference, *(row | {"turn": turn} for turn in (0, 40) for row in (known, failed))]
    lines = {line["method"]: line for line in benchmark.table(rows)}
    assert list(lines) == ["mean head", "truth", "failure"]
    assert lines["truth"]["similarity whole mean"] < 0.05
    assert lines["truth"]["metric inner mean"] < 0.05
    assert lines["mean head"]["similarity inner mean"] > 0.3
    assert lines["truth"]["gain"] == pytest.approx(lines["mean head"]["similarity inner mean"], abs=0.06)
    assert (lines["failure"]["n"], lines["failure"]["failed"]) == (0, 2)
    by_turn = benchmark.table(rows, ("method", "turn"))
    assert [line["turn"] for line in by_turn if line["method"] == "truth"] == [0, 40]
    assert benchmark.gain(rows, [known, failed]).n == 1


def test_alignment_in_two_stages_is_that_of_all_points(scan, head):
    """The scores equal those of the plain protocol, refined on all points from the landmarks."""
    points = scans.surface_sample(scan, 500)
    mean_head = benchmark.PredictedHead.of(head, head.template.numpy())
    nose, seven = scan.landmarks[scans.NOSE_TIP], scan.landmarks[list(MEDIAPIPE_SEVEN)]
    whole = points[region_near(points, nose, 95)]
    got = benchmark.score(scan, mean_head, points)
    for mode in benchmark.MODES:
        mesh = 1000 * mean_head.vertices, mean_head.faces
        plain = scan_to_mesh(whole, *mesh, seven, 1000 * mean_head.landmarks, metric=mode == "metric")
        assert got[f"{mode}_whole_mean"] == pytest.approx(plain.distances.mean(), rel=2e-3)


def test_size_counts_in_the_metric_score_only(scan, truth, head):
    points = scans.surface_sample(scan, 500)
    larger = benchmark.score(scan, benchmark.PredictedHead.of(head, 1.1 * truth), points)
    assert larger["similarity_whole_mean"] < 0.05
    assert larger["metric_whole_mean"] > 1


def test_textures_and_several_meshes(tmp_path):
    """A textured square and a plain one beside it, in the colours that the manifest's texture says."""
    square = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
    (tmp_path / "a.obj").write_text(square)
    (tmp_path / "b.obj").write_text(square.replace("v 0", "v 2").replace("v 1", "v 3"))
    texture = np.zeros((16, 16, 3), np.uint8)
    texture[:8] = (0, 0, 255)
    texture[8:] = (0, 255, 0)
    cv2.imwrite(str(tmp_path / "a.png"), texture)
    (tmp_path / "scans.json").write_text(json.dumps([{"name": "pair", "meshes": ["a.obj", "b.obj"], "textures": ["a.png"]}]))
    (files,) = scans.list_scans(tmp_path)
    pair = scans.read_scan(files)
    assert len(pair.faces) == 4
    assert pair.textured == 2
    camera = PinholeCamera(np.array([-1.5, -0.5, -4]), np.array([[64.0, 0, 32], [0, 64, 32], [0, 0, 1]]))
    image = pair.picture(camera, (64, 64), samples=1).astype(int)
    upper, lower, plain = image[27, 15], image[37, 15], image[32, 48]
    assert upper.argmax() == 0
    assert lower.argmax() == 1
    assert upper[1] < 60
    np.testing.assert_allclose(plain / plain[0], np.array(scans.SKIN) / scans.SKIN[0], atol=0.1)


def test_refusals(tmp_path, head, detect):
    with pytest.raises(UsageError, match="no such folder"):
        scans.list_scans(tmp_path / "nothing")
    with pytest.raises(UsageError, match="no meshes"):
        scans.list_scans(tmp_path)
    with pytest.raises(UsageError, match="missing"):
        scans.list_scans(tmp_path, tmp_path / "missing.json")
    (tmp_path / "bad.obj").write_bytes(b"\x00nonsense")
    with pytest.raises(DataError, match=r"bad\.obj"):
        scans.read_scan(*scans.list_scans(tmp_path))
    ball = trimesh.creation.icosphere(subdivisions=2)
    plain = scans.Scan("ball", np.array(ball.vertices), np.array(ball.faces), np.full((len(ball.vertices), 3), 0.5))
    with pytest.raises(DataError, match="no face"):
        scans.normalise(plain, detect, head.landmarks(head.template, "mediapipe478").numpy())
    (tmp_path / "scans.json").write_text('[{"meshes": []}]')
    with pytest.raises(UsageError, match="name"):
        scans.list_scans(tmp_path)
