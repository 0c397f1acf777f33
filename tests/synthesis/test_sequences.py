import numpy as np
import pytest
import torch

from neuface_ray.geometry.cameras import project_pinhole, transform_points, view_rotation
from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.heads import load_head
from neuface_ray.synthesis.faces import FaceOptions
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.synthesis.sequences import SequenceOptions, build_rig, make_sequence


@pytest.fixture(scope="module")
def drawn():
    torch.set_num_threads(1)
    renderer = Renderer(load_head())
    options = SequenceOptions(frames=4, views=3, face=FaceOptions(size=48, occluded=0.0))
    return renderer, options, make_sequence(renderer, options, 2, 7)


def test_cameras_look_at_the_origin_from_their_places():
    views = build_rig(7, 1.2)
    assert len({view.name for view in views}) == 7
    for view in views:
        matrix = view.camera.world_to_camera
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1)
        np.testing.assert_allclose(matrix[:3, 3], [0, 0, 1.2], atol=1e-12)
    front, left = views[0].camera.world_to_camera, views[1].camera.world_to_camera
    np.testing.assert_allclose(view_rotation(torch.from_numpy(front)), np.eye(3), atol=1e-12)
    assert -left[:3, :3].T[0] @ left[:3, 3] > 0.5  # it stands on the subject's left, at +x


def test_records_have_the_shapes_of_the_projects_types(drawn):
    _, _, sequence = drawn
    clip, truth = sequence.clip, sequence.truth
    assert clip.crops.shape == (4, 3, 3, 48, 48)
    assert clip.crops.dtype == np.uint8
    assert clip.landmarks.shape == (4, 3, 478, 2)
    assert clip.crop_to_image.shape == (4, 3, 3, 3)
    assert truth.pose.shape == (4, 3, 15)
    assert truth.clip_id == clip.clip_id
    assert sequence.visible.shape == (4, 3, 478)
    assert np.ptp(truth.shape, axis=(0, 1)).max() == 0
    assert np.ptp(truth.expression, axis=1).max() == 0
    assert np.ptp(truth.expression, axis=0).max() > 0


def test_calibrated_projection_of_the_true_head_gives_the_landmarks(drawn):
    renderer, _, sequence = drawn
    clip, truth = sequence.clip, sequence.truth
    for f in range(4):
        for v, view in enumerate(clip.segment.views):
            coefficients = (truth.shape[f, v], truth.expression[f, v], truth.pose[f, v, :3])
            vertices = renderer.head(*(torch.from_numpy(part).double() for part in coefficients))
            translation = torch.from_numpy(truth.translation[f, v]).double()
            pixels = project_pinhole(
                renderer.head.landmarks(vertices, "mediapipe478"), translation, torch.from_numpy(view.camera.intrinsics)
            )
            crop = transform_points(pixels, torch.linalg.inv(torch.from_numpy(clip.crop_to_image[f, v])))
            np.testing.assert_allclose(crop, clip.landmarks[f, v], atol=1e-4)


def test_views_show_one_head(drawn):
    """Taken back to the world, the posed heads of all views coincide."""
    renderer, _, sequence = drawn
    truth, views = sequence.truth, sequence.clip.segment.views
    heads = []
    for v, view in enumerate(views):
        coefficients = (truth.shape[1, v], truth.expression[1, v], truth.pose[1, v, :3])
        posed = renderer.head(*(torch.from_numpy(part).double() for part in coefficients)).numpy() + truth.translation[1, v]
        matrix = view.camera.world_to_camera
        heads.append((posed * [1, -1, -1] - matrix[:3, 3]) @ matrix[:3, :3])
    for other in heads[1:]:
        np.testing.assert_allclose(other, heads[0], atol=1e-5)
    turns = [rotvec_to_matrix(torch.from_numpy(truth.pose[1, v, :3])) for v in range(3)]
    assert not torch.allclose(turns[0], turns[1], atol=0.1)


def test_a_video_is_the_same_whenever_it_is_made(drawn):
    renderer, options, sequence = drawn
    again = make_sequence(renderer, options, 2, 7)
    assert np.array_equal(again.clip.crops, sequence.clip.crops)
    assert not np.array_equal(make_sequence(renderer, options, 2, 8).truth.shape, sequence.truth.shape)
