import numpy as np
import pytest

from neuface_ray.visualization import overlay


def test_region_holds_the_face_and_stays_in_the_image(scene):
    frames, region, _ = scene
    left, top, right, bottom = region
    for frame in frames:
        assert (frame.landmarks >= [left, top]).all()
        assert (frame.landmarks <= [right, bottom]).all()
    assert 0 <= left < right <= 640
    assert 0 <= top < bottom <= 480
    assert (right - left) / (bottom - top) == pytest.approx(0.8)


def test_region_of_a_close_up_and_of_no_face():
    close = np.array([[[10.0, 10], [90, 10], [50, 95]]])
    left, top, right, bottom = overlay.face_region(close, (100, 100))
    assert left < 10
    assert right > 90
    assert bottom > 95
    assert (right - left) / (bottom - top) == pytest.approx(0.8)
    left, top, right, bottom = overlay.face_region(np.zeros((0, 3, 2)), (100, 50))
    assert left <= 0
    assert right >= 100
    assert top <= 0
    assert bottom >= 50


def test_overlay_frame_draws_landmarks_mesh_and_profile(scene):
    frames, region, style = scene
    caption = overlay.Caption("a title " * 20, "NME 1.0 %", "accepted", True)
    picture = overlay.overlay_frame(frames[0], style, region, caption, (160, 200))
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 480
    assert picture.shape[0] % 2 == 0
    plain = overlay.overlay_frame(overlay.AnnotatedFrame(frames[0].image), style, region, caption, (160, 200))
    for panel in range(3):
        part = (slice(0, 200), slice(160 * panel, 160 * (panel + 1)))
        changed = (picture[part] != plain[part]).any(-1).mean()
        assert (0.02, 0.2, 0.2)[panel] < changed < 0.9
    assert (picture[200:] == plain[200:]).all()
    assert (np.abs(picture[200:].astype(int) - overlay.GOOD).max(-1) < 3).any()


def test_landmarks_and_mesh_are_drawn_where_they_are(scene):
    """The nose tip's dot, and the middle of the mesh's silhouette, at the places that the region says."""
    frames, region, style = scene
    black = overlay.AnnotatedFrame(
        np.zeros((480, 640, 3), np.uint8), frames[0].landmarks[1:2], frames[0].vertices, frames[0].camera
    )
    scale = 400 / (region[2] - region[0])
    expected = (black.landmarks[0] - region[:2]) * scale
    picture = overlay.overlay_frame(black, style, region, overlay.Caption(""), (400, 500))
    rows, columns = np.nonzero(picture[:500, :400].sum(-1) > 100)
    np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], expected, atol=1)
    outline = (black.camera.project(black.vertices) - region[:2]) * scale
    rows, columns = np.nonzero(picture[:500, 400:800].sum(-1) > 30)
    assert rows.min() == pytest.approx(max(outline[:, 1].min(), 0), abs=4)
    assert columns.max() == pytest.approx(min(outline[:, 0].max(), 400), abs=4)


def test_large_sources_are_averaged_down():
    checker = (np.indices((2000, 1600)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, -1)
    small, transform = overlay.cut_region(checker, (0, 0, 1600, 2000), (160, 200))
    assert small.shape == (200, 160, 3)
    assert np.abs(small[5:-5, 5:-5].astype(int) - 127).max() < 20
    np.testing.assert_allclose(transform @ [1600, 2000, 1], [160, 200, 1])
