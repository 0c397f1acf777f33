"""neuface-ray: face videos and photos in, trustworthy 3D face-mesh datasets out."""

__version__ = "0.1.0"


def open(path):
    """Open a dataset for reading, by folder or URL: a ``neuface_ray.dataset.MeshDataset``."""
    from neuface_ray.dataset.reader import open as open_dataset

    return open_dataset(path)
