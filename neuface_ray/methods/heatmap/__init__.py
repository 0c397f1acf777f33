"""Sparse keypoints of a face in a crop, as guidance for GLVD."""

from neuface_ray.methods.registry import Method
from neuface_ray.sections import Entry

METHOD = Method(
    recipes={
        "heatmap": Entry(
            implementation="neuface_ray.methods.heatmap.recipe:HeatmapRecipe",
            settings="neuface_ray.methods.heatmap.settings:HeatmapTrainingSettings",
            purpose="marks sparse keypoints of a face in a crop, as guidance for GLVD",
        )
    },
    networks={"heatmap": "neuface_ray.networks.hourglass:HeatmapNet"},
)
