"""neuface-ray: face videos and photos in, trustworthy 3D face-mesh datasets out."""

__version__ = "0.1.0"
