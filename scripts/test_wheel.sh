#!/usr/bin/env bash
# What a user has who installs the wheel: a new environment, no extras, no checkout, an empty folder. `make test-wheel` calls it.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mkdir "$place/empty" "$place/source"
git -C "$root" archive HEAD | tar -x -C "$place/source" # not the folder itself: stale files of build/ would be packed
"$PYTHON" -m venv "$place/venv"
bin=$place/venv/bin
"$bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$place" "$place/source"
"$bin/python" -m pip install --quiet "$TORCH"
"$bin/python" -m pip install --quiet --constraint "$root/constraints.txt" "$place"/neuface_ray-*.whl
"$bin/python" -m pip check
cd "$place/empty"
"$root/.venv/bin/python" -c "import skimage, PIL.Image; PIL.Image.fromarray(skimage.data.astronaut()).save('a.png')"

"$bin/python" - input=a.png output=unused <<'PYTHON'
import sys
from importlib.metadata import files
from pathlib import Path

import neuface_ray
from neuface_ray.config import load
from neuface_ray.errors import UsageError
from neuface_ray.media import plan
from neuface_ray.media.source import open_local
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.pipeline.segment import annotate_segment

assert "site-packages" in neuface_ray.__file__, neuface_ray.__file__
assert any(file.name == "py.typed" for file in files("neuface-ray"))
config = load(AnnotateConfig, None, sys.argv[1:])
(segment,) = plan(config.input, config.media)
(annotated,) = annotate_segment(segment, config)
assert annotated.decision.accepted, annotated.decision
try:
    with open_local("s3://bucket/a.mp4", 10):
        raise AssertionError("s3fs is not among the core dependencies")
except UsageError as error:
    assert 'pip install "neuface-ray[s3]"' in str(error), error
print("the wheel annotates a photograph")
PYTHON

"$root/.venv/bin/python" - <<'PYTHON'
import av
import numpy as np
import PIL.Image

face = np.asarray(PIL.Image.open("a.png"))[:256, 96:352]
with av.open("v.mp4", "w") as container:
    stream = container.add_stream("libx264", rate=25)
    stream.height, stream.width, stream.pix_fmt = 256, 256, "yuv420p"
    for shift in range(6):
        picture = np.ascontiguousarray(np.roll(face, 2 * shift, axis=1))
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode(None))
PYTHON
"$bin/neuface" --version
"$bin/neuface" annotate --config neuface input=v.mp4 output=o
"$bin/neuface" report dataset=o
"$bin/neuface" dataset verify o
for command in annotate report train evaluate synthesize dataset; do "$bin/neuface" $command --help > /dev/null; done
for command in annotate train evaluate synthesize; do "$bin/neuface" $command --help-all > /dev/null; done
test -s o/report/contact_sheet.png
echo "the commands of the wheel work"
