"""Folders of materials: found, or refused by the key that names them."""

import cv2
import numpy as np
import pytest

from neuface_ray.errors import DataError, UsageError
from neuface_ray.synthesis.materials import Materials, check_materials, material_files, read_map


def test_a_folder_that_holds_nothing_of_its_kind_is_refused_by_its_key(tmp_path):
    cv2.imwrite(str(tmp_path / "skin.png"), np.zeros((4, 4, 3), np.uint8))
    check_materials("geometry", Materials(textures=str(tmp_path), backgrounds=str(tmp_path)))
    with pytest.raises(UsageError, match=r"^geometry\.hdr=.*no \.hdr file"):
        check_materials("geometry", Materials(textures=str(tmp_path), hdr=str(tmp_path)))
    with pytest.raises(UsageError, match=r"^textures=/nowhere"):
        check_materials("", Materials("/nowhere"))


def test_files_are_found_below_and_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/z.hdr", "a.HDR", "c.txt", "d.jpg"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in material_files(str(tmp_path), "hdr")] == ["a.HDR", "z.hdr"]
    assert [path.name for path in material_files(str(tmp_path), "backgrounds")] == ["a.HDR", "z.hdr", "d.jpg"]


def test_a_map_is_read_in_linear_rgb_and_anything_else_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.hdr"), np.full((8, 16, 3), (4.0, 2.0, 1.0), np.float32))
    np.testing.assert_allclose(read_map(tmp_path / "a.hdr", 8), np.broadcast_to([1.0, 2.0, 4.0], (4, 8, 3)), rtol=0.01)
    (tmp_path / "b.hdr").write_bytes(b"no map")
    with pytest.raises(DataError, match=r"b\.hdr is no readable colour environment map"):
        read_map(tmp_path / "b.hdr", 8)
