"""Everything but the pipeline, the training loop and the commands works where there is no Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

NOTEBOOK = """
import sys
sys.modules["ray"] = None  # any import of it fails
from neuface_ray.config import load
from neuface_ray.media import plan
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.pipeline.segment import annotate_segment

config = load(AnnotateConfig, None, sys.argv[1:])
(segment,) = plan(config.input, config.media)
(annotated,) = annotate_segment(segment, config)
print(annotated.decision.accepted, annotated.sequence.pose.shape)
"""


def test_a_notebook_annotates_without_ray(tiny_video):
    from tests.conftest import FAST_FIT

    command = [sys.executable, "-c", NOTEBOOK, f"input={tiny_video}", "output=unused", *FAST_FIT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split("\n")[-2] == "True (12, 1, 15)", done.stderr
