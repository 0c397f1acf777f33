"""Direct parameter fitting, for any head, any number of views and frames."""

from neuface_ray.methods.registry import Method
from neuface_ray.sections import Entry

METHOD = Method(
    annotators={
        "direct_fitting": Entry(
            implementation="neuface_ray.methods.direct_fitting.annotator:DirectFitting",
            settings="neuface_ray.methods.direct_fitting.settings:DirectFittingSettings",
            purpose="fits the parameters of any head to the landmarks, in any number of views",
        )
    },
)
