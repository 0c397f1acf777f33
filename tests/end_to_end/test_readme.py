"""What the README tells people to type works: its queries run, its commands and configuration files exist."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from neuface_ray.config import load
from neuface_ray.config_files import find_config
from neuface_ray.pipeline.config import AnnotateConfig

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("query", [query for block in blocks("sql") for query in block.split(";") if query.strip()])
def test_queries_run_and_find_something(query, tiny_dataset):
    assert duckdb.sql(query.replace("outputs/demo", str(tiny_dataset))).fetchall()


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code, tiny_dataset, tiny_video, tmp_path):
    paths = {"outputs/demo": tiny_dataset, "my_video.mp4": tiny_video, "outputs/mine": tmp_path}
    for named, real in paths.items():
        code = code.replace(named, str(real))
    exec(compile(code, "README.md", "exec"), {})


def test_readme_has_recipes():
    assert len(blocks("sql")) >= 1
    assert len(blocks("python")) >= 3


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:jobs|configs|cluster)/[\w/.-]+\.\w+", README))))
def test_named_files_exist(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("command", "name"), sorted(set(re.findall(r"neuface (\w+) --config (\w+)", README))))
def test_named_configurations_are_packaged(command, name):
    assert find_config(name, command).is_file()


@pytest.mark.parametrize("file", sorted((ROOT / "configs/annotate").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_annotation_config_loads_and_is_documented(file):
    load(AnnotateConfig, file, ["input=a", "output=b"])
    above = ""
    for line in file.read_text().splitlines():
        is_value = line.strip() and not line.strip().startswith("#") and not line.rstrip().endswith(":")
        assert not (is_value and not above.strip()), f"{line!r} has no comment above it"
        above = line if line.strip() else ""
