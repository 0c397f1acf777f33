"""Parametric head models: the packaged open head and FLAME from the user's own file, one class for both."""

from neuface_ray.heads.landmarks import ContourEmbedding, LandmarkEmbedding
from neuface_ray.heads.load import load_head
from neuface_ray.heads.model import HeadModel
from neuface_ray.types import ARKIT_NAMES

__all__ = ["ARKIT_NAMES", "ContourEmbedding", "HeadModel", "LandmarkEmbedding", "load_head"]
