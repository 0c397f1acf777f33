"""Answers for faces that were turned upright, back in the picture."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from neuface_ray.heads.sequence_meshes import build_meshes, head_camera
from neuface_ray.media.orientation import turn_about_middle
from neuface_ray.methods.upright import in_picture, upright
from neuface_ray.metrics.clip_quality import measure
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.pipeline.segment import AnnotationSession, annotate_segment
from tests.media.files import astronaut, still_segment, turned
from tests.metrics.clips import make_clip

TURNS = np.array([[0, 2], [1, 2], [2, 2], [3, 2], [1, 2]], np.int8)


@pytest.fixture(scope="module")
def head():
    from neuface_ray.heads import load_head

    return load_head()


@pytest.mark.parametrize("kind", ["weak", "vertices", "calibrated"])
def test_the_head_lies_in_the_picture_where_it_was_found_in_the_turned_one(head, kind):
    clip, answer = make_clip(head, frames=5, calibrated=kind == "calibrated", as_vertices=kind == "vertices")
    clip.quarter_turns = TURNS if kind != "calibrated" else np.tile(np.array([1, 2], np.int8), (5, 1))
    seen = upright(clip)
    back = in_picture(clip, answer, head)
    above, below = build_meshes(answer, head), build_meshes(back, head)
    for frame, view in np.ndindex(5, 2):
        quarters = int(clip.quarter_turns[frame, view])
        to_picture = turn_about_middle((640, 480), quarters)
        expected = head_camera(seen, answer, frame, view).project(above.posed[frame, view])
        expected = expected @ to_picture[:, :2].T + to_picture[:, 2]
        found = head_camera(clip, back, frame, view).project(below.posed[frame, view])
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_turned_clip_is_the_same_picture(head):
    clip, _ = make_clip(head, frames=5)
    clip.crops[:] = np.random.default_rng(0).integers(0, 255, clip.crops.shape)
    clip.quarter_turns = TURNS
    seen = upright(clip)
    for frame, view in np.ndindex(5, 2):
        to_picture = turn_about_middle((640, 480), int(TURNS[frame, view]))
        above = seen.landmarks[frame, view] @ seen.crop_to_image[frame, view][:2, :2].T + seen.crop_to_image[frame, view][:2, 2]
        expected = (
            clip.landmarks[frame, view] @ clip.crop_to_image[frame, view][:2, :2].T + clip.crop_to_image[frame, view][:2, 2]
        )
        np.testing.assert_allclose(above @ to_picture[:, :2].T + to_picture[:, 2], expected, atol=1e-3)
        x, y = 1, 5  # the pixel of a crop at (x, y) lies in the picture's crop where its centre says
        centre = np.array([x + 0.5, y + 0.5]) / 4 - 1
        there = to_picture[:, :2] @ (seen.crop_to_image[frame, view] @ [*centre, 1])[:2] + to_picture[:, 2]
        column, row = np.floor(((there - [330, 250]) / 150 + 1) * 4).astype(int)
        np.testing.assert_array_equal(seen.crops[frame, view][:, y, x], clip.crops[frame, view][:, row, column])


def test_nothing_is_touched_where_nothing_is_turned(head):
    clip, answer = make_clip(head, frames=3)
    assert upright(clip) is clip
    assert in_picture(clip, answer, head) is answer
    clip.quarter_turns = np.array([[0, 0], [1, 0], [0, 0]], np.int8)
    back = in_picture(clip, answer, head)
    for name in ("pose", "camera"):
        same = [np.array_equal(getattr(back, name)[f, v], getattr(answer, name)[f, v]) for f, v in np.ndindex(3, 2)]
        assert same == [True, True, False, True, True, True]


def test_roll_counts_the_turn(head):
    clip, answer = make_clip(head, frames=5)
    clip.quarter_turns = TURNS
    before, after = (measure(clip, sequence, head) for sequence in (answer, in_picture(clip, answer, head)))
    turned_by = (after.roll_deg - before.roll_deg - 90.0 * TURNS) % 360
    assert np.minimum(turned_by, 360 - turned_by).max() < 5
    assert (after.roll_deg > -180).all()
    assert (after.roll_deg <= 180).all()


@pytest.mark.parametrize("turn_deg", [0, 45, 90, 120, 180, -90])
def test_photographs_in_any_turn_are_annotated_where_the_face_is(tmp_path, turn_deg):
    picture, _ = turned(astronaut(), turn_deg)
    Image.fromarray(picture).save(tmp_path / "a.png")
    config = AnnotateConfig(input=str(tmp_path), output=str(tmp_path / "out"))
    (result,) = annotate_segment(still_segment(tmp_path / "a.png"), config, AnnotationSession.load(config))
    assert result.decision.accepted
    assert result.quality.clip_nme < 2
    roll = float(result.quality.roll_deg[0, 0])
    assert abs((roll - turn_deg + 180) % 360 - 180) < 8
    assert torch.isfinite(torch.from_numpy(result.sequence.pose)).all()
    assert replace(result.clip, quarter_turns=None).crop_to_image[0, 0, 0, 1] == 0
