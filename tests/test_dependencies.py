"""What the declared dependencies bring with them."""

from importlib.metadata import distributions


def test_all_installed_opencv_distributions_have_one_version() -> None:
    # They unpack into one folder cv2: with two versions, whichever was unpacked last decides how crops are resampled.
    versions = {found.name: found.version for found in distributions() if found.name.lower().startswith("opencv")}
    assert "opencv-contrib-python" in versions
    assert len(set(versions.values())) == 1, versions
