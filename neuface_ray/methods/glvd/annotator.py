"""Annotation by guided learned vertex descent."""

from __future__ import annotations

from neuface_ray.methods.glvd.network import GLVD
from neuface_ray.methods.lvd.annotator import VertexDescent


class Glvd(VertexDescent):
    """Guided Learned Vertex Descent."""

    name, descent = "glvd", GLVD
