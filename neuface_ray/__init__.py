"""neuface-ray: face videos and photos in, trustworthy 3D face-mesh datasets out."""

from neuface_ray.version import __version__

__all__ = ["__version__", "open"]


def open(path):
    """Open a dataset for reading, by folder or URL: a ``neuface_ray.dataset.MeshDataset``."""
    from neuface_ray.dataset.reader import open as open_dataset  # here, so that importing any module does not load pyarrow

    return open_dataset(path)
