"""Learned Vertex Descent: a mesh without a morphable model at run time (ECCV 2022)."""

from neuface_ray.methods.registry import Method
from neuface_ray.sections import Entry

METHOD = Method(
    annotators={
        "lvd": Entry(
            implementation="neuface_ray.methods.lvd.annotator:Lvd",
            settings="neuface_ray.methods.lvd.settings:DescentSettings",
            purpose="reconstructs vertices by Learned Vertex Descent",
        )
    },
    recipes={
        "lvd": Entry(
            implementation="neuface_ray.methods.lvd.recipe:LvdRecipe",
            settings="neuface_ray.methods.lvd.settings:LvdTrainingSettings",
            purpose="reconstructs a face mesh of fixed topology from one or several crops by Learned Vertex Descent",
        )
    },
    networks={"lvd": "neuface_ray.methods.lvd.network:LVD"},
)
