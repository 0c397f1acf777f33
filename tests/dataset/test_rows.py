import dataclasses
import json

import numpy as np
import pytest

from neuface_ray.dataset import clip_rows, segment_from_json, segment_to_json
from neuface_ray.dataset.arrays import to_arrays
from neuface_ray.errors import DataError, UsageError
from tests.dataset.made import LANDMARKS, make_clip, make_segment, provenance


@pytest.mark.parametrize("views", [1, 3])
def test_rows_are_the_core_frames_of_every_view(views):
    segment = make_segment(2, views=views)
    clip, mesh, quality, decision = make_clip(segment, with_vertices=True)
    rows = clip_rows(clip, mesh, quality, decision, provenance())
    frames, arrays = rows["frames"].to_pylist(), to_arrays(rows["frames"])
    vertices = to_arrays(rows["vertices"])["vertices"]
    assert len(frames) == 6 * views
    n = 0
    for v in range(views):
        for f in range(clip.n_frames):
            if not clip.core[f]:
                continue
            row = frames[n]
            assert (row["view"], row["frame_index"], row["source_frame"]) == (f"view{v}", 12 + f - 1, clip.source_frame[f, v])
            assert row["valid"] == (clip.valid & mesh.valid)[f, v]
            assert row["nme"] == (None if np.isnan(quality.nme[f, v]) else pytest.approx(quality.nme[f, v]))
            for name in ("shape", "expression", "pose", "camera"):
                assert np.array_equal(arrays[name][n], getattr(mesh, name)[f, v])
            assert np.array_equal(arrays["crop_to_image"][n], clip.crop_to_image[f, v])
            assert np.array_equal(arrays["landmarks"][n], clip.landmarks[f, v].astype(np.float16))
            assert np.array_equal(vertices[n], mesh.vertices[f, v])
            assert (row["intrinsics"] is None) == (v == 0)
            n += 1
    assert n == len(frames)


def test_clip_row_and_json():
    segment = make_segment(0, person="anna")
    clip, mesh, quality, decision = make_clip(segment, accepted=False)
    row = clip_rows(clip, mesh, quality, decision, provenance(seed=3))["clips"].to_pylist()[0]
    assert (row["status"], row["reasons"], row["notes"]) == ("rejected", ["nme_above_limit"], ["noticed"])
    assert (row["n_frames"], row["n_views"], row["first_frame"], row["fps"]) == (6, 2, 0, 25.0)
    assert json.loads(row["metrics"]) == {"loss": None, "steps": 10}
    assert json.loads(row["seconds"]) == {"decode": 0.25, "fit": 0.5}
    assert row["seconds_total"] == 0.75
    assert row["cvd"] is None
    assert (row["licence"], row["seed"]) == ("CC0", 3)
    np.testing.assert_allclose(row["shape"], mesh.shape[0, 0], rtol=1e-6)


def test_what_media_and_gate_tell_of_each_frame():
    """Clocks, angles and reasons, frame by frame and view by view; null where nothing is known."""
    segment = make_segment(1)
    clip, mesh, quality, decision = make_clip(segment)
    grid, rng = clip.valid.shape, np.random.default_rng(0)
    clip.valid[1:4, 0], clip.valid[1:4, 1] = (False, False, True), (True, False, True)
    mesh.valid = clip.valid.copy()
    mesh.valid[3, 1] = False
    clip.invalid_reason = np.where(clip.valid, "", "no_face").astype(object)
    clip.invalid_reason[1, 0], clip.invalid_reason[2, 0] = "truncated", "no_partner"
    clip.source_timestamps_s = rng.random(grid)
    clip.source_timestamps_s[2, 1] = np.nan
    angles = np.where(mesh.valid, rng.random((2, *grid)), np.nan).astype(np.float32)
    quality = dataclasses.replace(quality, pitch_deg=angles[0], roll_deg=angles[1])
    rows = {
        (row["frame_index"], row["view"]): row
        for row in clip_rows(clip, mesh, quality, decision, provenance())["frames"].to_pylist()
    }
    for f, v in np.argwhere(np.repeat(clip.core[:, None], grid[1], 1)):
        row = rows[clip.frame_index[f], f"view{v}"]
        time = clip.source_timestamps_s[f, v]
        assert row["source_timestamp_s"] == (None if np.isnan(time) else time)
        assert row["timestamp_s"] == clip.timestamps_s[f]
        for name, values in (("pitch_deg", angles[0]), ("roll_deg", angles[1])):
            assert row[name] == (values[f, v] if mesh.valid[f, v] else None)
        reason = clip.invalid_reason[f, v] or (None if mesh.valid[f, v] else "not_annotated")
        assert row["invalid_reason"] == reason
        assert (row["invalid_reason"] is None) == row["valid"]
    reasons = {row["invalid_reason"] for row in rows.values()}
    assert reasons >= {None, "truncated", "no_partner", "no_face", "not_annotated"}


def test_what_is_not_known_is_null():
    row = clip_rows(*make_clip(make_segment(0)), provenance())
    frames, clip = row["frames"], row["clips"].to_pylist()[0]
    for name in ("source_timestamp_s", "invalid_reason", "pitch_deg", "roll_deg"):
        assert frames[name].null_count == frames.num_rows
    assert (clip["faces_found"], clip["faces_left_out"], clip["start_offset_s"]) == (None, None, 0.0)


def test_what_media_tell_of_a_clip():
    clip, mesh, quality, decision = make_clip(make_segment(0))
    clip = dataclasses.replace(clip, notes=("deinterlaced",), faces_found=7, faces_left_out=3, start_offset_s=1.25)
    row = clip_rows(clip, mesh, quality, decision, provenance())["clips"].to_pylist()[0]
    assert row["notes"] == ["deinterlaced", "noticed"]
    assert (row["faces_found"], row["faces_left_out"], row["start_offset_s"]) == (7, 3, 1.25)


def test_methods_without_parameters():
    rows = clip_rows(*make_clip(make_segment(0), empty=True, with_vertices=True), provenance(), "float16")
    arrays = to_arrays(rows["frames"])
    assert arrays["shape"].shape == (12, 0)
    assert arrays["expression"].shape == (12, 0)
    assert to_arrays(rows["vertices"])["vertices"].dtype == np.float16


def test_clip_without_any_valid_frame():
    clip, mesh, quality, decision = make_clip(make_segment(0))
    clip.valid[:] = False
    rows = clip_rows(clip, mesh, dataclasses.replace(quality, clip_nme=float("nan")), decision, provenance())
    assert rows["clips"]["nme"][0].as_py() is None
    assert not any(rows["frames"]["valid"].to_pylist())
    assert to_arrays(rows["frames"])["landmarks"].shape == (12, LANDMARKS, 2)


def test_no_credentials_are_written():
    clip, mesh, quality, decision = make_clip(make_segment(0))
    mesh.provenance = {"weights": "https://me:pw@host/w?token=abc", "api_key": "abc"}
    config = {"input": "s3://key:secret@bucket/x", "password": "hunter2", "steps": 3}
    rows = clip_rows(clip, mesh, quality, decision, provenance(config=config))
    text = str({name: table.to_pylist() for name, table in rows.items()}) + json.dumps(provenance(config=config).config)
    for secret in ("secret@", "key:", "sig=", "token=", "pw@", "hunter2", "'abc'", '"abc"'):
        assert secret not in text, secret
    assert "s3://bucket/seq/v0.mp4" in text


def test_config_hash_ignores_order_and_notices_values():
    a = provenance(config={"a": 1, "b": {"c": 2.0, "d": [1, 2]}})
    b = provenance(config={"b": {"d": [1, 2], "c": 2.0}, "a": 1}, run_id="other")
    assert a.config_hash == b.config_hash
    assert a.config_hash != provenance(config={"a": 2, "b": {"c": 2.0, "d": [1, 2]}}).config_hash


def test_segment_survives_json():
    segment = dataclasses.replace(make_segment(1, "a\nb 'ü'", person="péter"), fps=12.5)
    late = dataclasses.replace(segment.views[1], offset_s=-0.75)
    segment = dataclasses.replace(segment, views=(segment.views[0], late))
    twin = segment_from_json(segment_to_json(segment))
    assert twin.views[0].uri == "s3://bucket/a\nb 'ü'/v0.mp4"
    assert np.array_equal(twin.views[1].camera.intrinsics, segment.views[1].camera.intrinsics)
    assert [view.offset_s for view in twin.views] == [0.0, -0.75]
    assert dataclasses.replace(twin, views=()) == dataclasses.replace(segment, views=())


def test_a_segment_of_an_earlier_version_had_no_offset():
    stored = json.loads(segment_to_json(make_segment(0)))
    for view in stored["views"]:
        del view["offset_s"]
    assert [view.offset_s for view in segment_from_json(json.dumps(stored)).views] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clip_id": "other"}, "belongs to clip other"),
        ({"head_model": "x/1/2"}, "head x/1/2"),
        ({"pose": np.zeros((2, 2, 15), np.float32)}, "pose has shape"),
        ({"camera": np.full((7, 2, 3), np.nan, np.float32)}, "camera is not finite"),
    ],
)
def test_records_that_do_not_fit_are_refused(change, words):
    clip, mesh, quality, decision = make_clip(make_segment(0))
    with pytest.raises(DataError, match=words) as caught:
        clip_rows(clip, dataclasses.replace(mesh, **change), quality, decision, provenance())
    assert caught.value.code == "inconsistent_clip"


def test_run_id_must_be_a_name():
    with pytest.raises(UsageError, match="run_id"):
        provenance("a/b")
