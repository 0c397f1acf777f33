"""The geometry evaluation from the command line, small, with an encoder that knows nothing; its sitters and its rules."""

import json

import numpy as np
import pytest
import torch
import trimesh

from jobs.evaluate import main
from neuface_ray.errors import UsageError
from neuface_ray.evaluation import geometry
from neuface_ray.evaluation.rendered_clips import as_video, as_views, capture
from neuface_ray.evaluation.rendered_heads import ScanSitter, SyntheticSitter, second_setting
from neuface_ray.evaluation.scan_benchmark import MEAN_HEAD
from neuface_ray.fitting.objective import Observations
from neuface_ray.heads import load_head
from neuface_ray.media import MediaConfig
from neuface_ray.media.detect import FaceDetector
from neuface_ray.methods.encoder.network import CompactEncoder
from neuface_ray.methods.encoder.weights import save_compact
from neuface_ray.metrics.landmarks import source_landmarks
from neuface_ray.synthesis.draw import Stage
from neuface_ray.synthesis.materials import Materials


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def sitter(head):
    """A synthetic person with a resting face."""
    return SyntheticSitter(Stage(head), second_setting(256, 1.0, 0.0, Materials()), 3, 1, 1.0)


@pytest.fixture(scope="module")
def media():
    return MediaConfig(max_faces=1, crop_size=64)


@pytest.fixture(scope="module")
def detector(media):
    with FaceDetector(media) as opened:
        yield opened


def in_pixels(points_mm, camera):
    opencv = points_mm / 1000 @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    pixels = opencv @ camera.intrinsics.T
    return pixels[:, :2] / pixels[:, 2:]


def test_report_claims_and_exit_code(tmp_path, head, capsys):
    torch.manual_seed(0)
    weights, folder = tmp_path / "encoder.safetensors", tmp_path / "scans"
    save_compact(CompactEncoder(head.id), weights)
    folder.mkdir()
    with torch.no_grad():
        vertices = head(torch.tensor([1.2, -1.0, 1.0, 0.8])).numpy()
    trimesh.Trimesh(1000 * vertices, head.faces.numpy(), process=False).export(folder / "person.ply")
    trimesh.creation.icosphere(subdivisions=1).export(folder / "ball.ply")
    own = {
        "scans": folder,
        "identities": 1,
        "size": 192,
        "yaws": "[0,40]",
        "together": "[0,40]",
        "frames": 3,
        "points": 200,
        "workers": 1,
        "settings.weights": weights,
        "settings.neuface.passes": 2,
        "settings.flame_fitting.steps": 3,
        "settings.flame_fitting.pose_steps": 2,
    }
    output = tmp_path / "report"
    assert main(["evaluation=geometry", f"output={output}", *(f"geometry.{key}={value}" for key, value in own.items())]) == 4
    printed = capsys.readouterr().out
    report = json.loads((output / "report.json").read_text())
    assert [claim["name"] for claim in report["claims"]] == ["D1", "D2", "D3"]
    assert "D1 FAIL" in printed
    assert "scan ball" in report["facts"]["left out"]
    assert (output / "heads.png").stat().st_size > 1000
    for name in ("scans", "synthetic"):
        lines = report["tables"][f"Scan to mesh, mm: {name}"]
        seen = {(line["method"], line["seen"]): line for line in lines}
        assert len(seen) == 1 + 3 + 2 + 3
        assert [seen[name, "one view"]["n"] for name in geometry.SEEN_BY] == [2, 2, 2]
        assert seen["neuface", "turning head"]["n"] == 1
        assert all(line["failed"] == 0 for line in lines)
        mean_head, bare = seen[MEAN_HEAD, ""], seen["encoder", "one view"]
        assert bare["similarity inner mean"] == pytest.approx(mean_head["similarity inner mean"], abs=0.2)
        assert 0.2 < mean_head["similarity inner mean"] < mean_head["metric inner mean"] + 0.05


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"methods": ["encoder"]}, "neuface"),
        ({"identities": 0}, "nothing to evaluate"),
        ({"together": [10.0]}, "together"),
        ({"yaws": [50.0], "together": [50.0]}, "turn_deg"),
        ({"textures": "/nowhere"}, "geometry.textures=/nowhere"),
    ],
)
def test_wrong_usage_is_told(changed, told):
    with pytest.raises(UsageError, match=told):
        geometry.GeometryEvaluation(**changed).check()
    geometry.GeometryEvaluation().check()


@pytest.mark.parametrize("yaw", [0.0, -35.0])
def test_a_synthetic_persons_camera_is_the_one_that_saw_her(sitter, detector, yaw):
    shot = sitter.take(yaw, 5.0)
    found = detector.find(shot.image)[0].mesh
    expected = in_pixels(sitter.scan.landmarks, shot.camera)
    eyes = np.linalg.norm(np.diff(sitter.scan.landmarks[[33, 263]], axis=0)) / 1000 * 256 / 0.36
    assert np.nanmean(np.linalg.norm(found - expected, axis=-1)) < 0.06 * eyes
    assert sitter.take(yaw, 5.0).image.tobytes() == shot.image.tobytes()


def test_both_kinds_of_sitters_turn_alike(sitter):
    still = ScanSitter(sitter.scan, 256)
    a, b = sitter.take(30.0, -4.0), still.take(30.0, -4.0)
    np.testing.assert_allclose(a.camera.world_to_camera, b.camera.world_to_camera)
    np.testing.assert_allclose(a.camera.intrinsics, b.camera.intrinsics)
    assert a.image.shape == b.image.shape == (256, 256, 3)


def test_stills_become_a_video_or_views(sitter, media, detector):
    shots = [sitter.take(yaw) for yaw in (-20.0, 0.0)]
    stills = [capture(shot.image, media, detector) for shot in [*shots, shots[0]]]
    stills[1] = capture(np.full((256, 256, 3), 80, np.uint8), media, detector)
    video = as_video(stills, 25.0)
    assert video.crops.shape == (3, 1, 3, 64, 64)
    assert video.valid[:, 0].tolist() == [True, False, True]
    assert video.timestamps_s.tolist() == [0, 0.04, 0.08]
    assert video.core.all()
    np.testing.assert_array_equal(video.landmarks[2], stills[2].landmarks[0])
    views = as_views([stills[0], stills[2]], [shots[0].camera, shots[1].camera])
    assert views.crops.shape == (1, 2, 3, 64, 64)
    assert views.image_size.tolist() == [[256, 256]] * 2
    assert len(views.source_hash) == len(views.segment.views) == 2
    assert Observations.of(views, sitter.stage.head).calibrated
    assert not Observations.of(video, sitter.stage.head).calibrated
    np.testing.assert_allclose(source_landmarks(views)[0, 0], source_landmarks(stills[0])[0, 0])


def test_the_path_of_a_turning_head():
    path = np.array(geometry.turning(60, 40.0))
    assert path.shape == (60, 2)
    assert np.abs(path[:, 0]).max() == pytest.approx(40, abs=0.1)
    assert path[0].tolist() == [0, 0]
    assert np.abs(np.diff(path, axis=0)).max() < 5


def rows_of(name, head, mean_head, neuface, encoder, together, turning):
    """Rows as the evaluation makes them: single views at 0, 40 and 60 degrees."""

    def row(method, seen, turn, error):
        return {"set": name, "head": head, "method": method, "seen": seen, "turn": turn, "similarity_inner_mean": error}

    rows = [row(MEAN_HEAD, "", "", mean_head)]
    rows += [row("neuface", geometry.ONE, turn, neuface + (turn == 60) * 0.1) for turn in (0.0, 40.0, 60.0)]
    rows += [row("encoder", geometry.ONE, turn, encoder) for turn in (0.0, 40.0, 60.0)]
    return [*rows, row("neuface", geometry.VIEWS, "", together), row("neuface", geometry.TURNING, "", turning)]


def heads(name, count=4, **errors):
    normal = {"mean_head": 2.0, "neuface": 1.2, "encoder": 1.5, "together": 1.0, "turning": 1.1} | errors
    return [row for index in range(count) for row in rows_of(name, f"{name} {index}", **normal)]


def test_d1_holds_on_every_set_for_both_methods():
    good = heads("scans")
    assert geometry.one_view_claim(good + heads("synthetic")).passed
    assert not geometry.one_view_claim(good + heads("synthetic", encoder=1.7)).passed
    assert not geometry.one_view_claim(good + heads("synthetic", neuface=1.6)).passed
    unsure = rows_of("scans", "a", 2.0, 0.5, 1.5, 1.0, 1.0) + rows_of("scans", "b", 2.0, 2.0, 1.5, 1.0, 1.0)
    assert not geometry.one_view_claim(unsure).passed
    missing = [row | {"similarity_inner_mean": float("nan")} if row["turn"] == 60 else row for row in good]
    assert geometry.one_view_claim(missing).passed


def test_d2_compares_with_single_views_that_are_turned_as_far():
    together, turn = [-40.0, 0.0, 40.0], 40.0
    assert geometry.more_views_claim(heads("scans"), together, turn, True).passed
    assert not geometry.more_views_claim(heads("scans", together=1.2), together, turn, True).passed
    assert not geometry.more_views_claim(heads("scans", turning=1.21), together, turn, True).passed
    assert geometry.more_views_claim(heads("scans", turning=1.21), together, 60.0, True).passed
    assert not geometry.more_views_claim(heads("scans"), together, turn, False).passed


def test_d3_is_judged_on_scans_if_there_are_any():
    assert geometry.mark_claim(heads("scans", neuface=1.3)).passed
    assert not geometry.mark_claim(heads("scans", neuface=1.5) + heads("synthetic")).passed
    assert geometry.mark_claim(heads("synthetic")).passed
