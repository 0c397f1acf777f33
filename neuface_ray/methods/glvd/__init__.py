"""Guided Learned Vertex Descent: keypoints descend first and lead the vertices (NeurIPS 2025)."""

from neuface_ray.methods.registry import Method
from neuface_ray.sections import Entry

METHOD = Method(
    annotators={
        "glvd": Entry(
            implementation="neuface_ray.methods.glvd.annotator:Glvd",
            settings="neuface_ray.methods.lvd.settings:DescentSettings",
            purpose="reconstructs vertices by Guided Learned Vertex Descent",
        )
    },
    recipes={
        "glvd": Entry(
            implementation="neuface_ray.methods.glvd.recipe:GlvdRecipe",
            settings="neuface_ray.methods.glvd.settings:GlvdTrainingSettings",
            purpose="reconstructs a face mesh of fixed topology and sparse keypoints from one or several crops by Guided "
            "Learned Vertex Descent",
        )
    },
    networks={"glvd": "neuface_ray.methods.glvd.network:GLVD"},
)
