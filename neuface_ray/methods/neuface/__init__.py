"""NeuFace: for every clip a copy of the encoder is moved until its answers follow the clip (CVPR 2023)."""

from neuface_ray.methods.registry import Method
from neuface_ray.sections import Entry

METHOD = Method(
    annotators={
        "neuface": Entry(
            implementation="neuface_ray.methods.neuface.annotator:Neuface",
            settings="neuface_ray.methods.neuface.settings:NeufaceSettings",
            purpose="moves the weights of an encoder for each clip until its answers follow what is seen",
        )
    },
)
