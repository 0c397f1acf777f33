import pyarrow as pa
import pytest

from neuface_ray.dataset.schema import KEYS, TABLES, Layout, layout_of, schema, shape_of

PROMISED = {
    "frames": "clip_id sequence_id person view frame_index timestamp_s valid accepted head_model shape expression pose camera "
    "crop_to_image landmarks landmark_confidence nme yaw_deg face_px blur source_uri",
    "clips": "clip_id sequence_id status reasons n_frames n_views fps shape nme msi3d_landmarks msi3d_vertices cvd annotator "
    "head_model config_hash code_version seconds",
    "quarantine": "segment_id source_uri stage error message traceback attempts segment",
}


@pytest.mark.parametrize("table", PROMISED)
def test_promised_columns_are_there(table):
    assert set(PROMISED[table].split()) <= set(schema(table).names)


@pytest.mark.parametrize("table", TABLES)
def test_every_column_says_what_it_is_and_needs_no_plugin(table):
    for field in schema(table, Layout(4, 3, 7, 5)):
        assert field.metadata[b"description"]
        assert not isinstance(field.type, pa.BaseExtensionType)
    assert set(KEYS[table]) <= set(schema(table).names)


def test_lists_have_the_size_of_their_shape():
    layout = Layout(n_shape=100, n_expression=52, n_landmarks=478, n_vertices=5, vertex_dtype="float16")
    frames, vertices = schema("frames", layout), schema("vertices", layout)
    sizes = {field.name: field.type.list_size for field in frames if shape_of(field)}
    assert sizes == {
        "shape": 100,
        "expression": 52,
        "pose": 15,
        "camera": 3,
        "translation": 3,
        "crop_to_image": 9,
        "landmarks": 956,
        "landmark_confidence": 478,
        "intrinsics": 9,
        "world_to_camera": 16,
    }
    assert shape_of(frames.field("landmarks")) == (478, 2)
    assert layout_of(frames, vertices) == layout
    assert layout_of(None) == Layout()
