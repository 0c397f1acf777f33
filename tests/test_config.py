"""The configuration reader: layers, types, messages, and that any typed text arrives as it was typed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from neuface_ray.config import REQUIRED, describe, keys, load
from neuface_ray.errors import UsageError
from neuface_ray.former import complete, differing, former_settings


@dataclass(frozen=True)
class Media:
    """A section, frozen as some are."""

    max_faces: int = 3
    """Most people followed
    at once."""
    fps: float | None = None
    """Frames per second."""
    tile: tuple[int, int] = (2, 1)
    """Columns and rows."""


@dataclass
class Job:
    """A job."""

    input: str = REQUIRED
    """What to read."""
    note: str | None = None
    """Anything."""
    quick: bool = False
    """Whether to hurry."""
    media: Media = field(default_factory=Media)
    options: dict[str, Any] = field(default_factory=dict, metadata={"help": "Free-form."})


@dataclass
class Fit:
    """A section that has grown."""

    steps: int = 10
    """Since ever."""
    robust: float = field(default=0.5, metadata={"help": "Added later, and better than none.", "former": 0.0})
    sizes: tuple[int, ...] = (1, 2)
    """Added later."""


@dataclass
class Grown:
    """A schema that has grown."""

    fit: Fit = field(default_factory=lambda: Fit(steps=20))
    mode: str = field(default="new", metadata={"former": "old"})
    """Added later."""


def test_what_lacks_a_key_was_made_with_its_former_value_or_else_its_default():
    former = former_settings(Grown())
    assert former == {"fit": {"steps": 20, "robust": 0.0, "sizes": (1, 2)}, "mode": "old"}
    stored = {"fit": {"steps": 7, "gone": None}}
    assert complete(stored, former) == {"fit": {"steps": 7, "robust": 0.0, "sizes": (1, 2), "gone": None}, "mode": "old"}
    assert stored == {"fit": {"steps": 7, "gone": None}}
    assert load(Grown) == Grown(Fit(20, 0.5, (1, 2)), "new")
    assert "Added later, and better than none." in describe(Grown)


def test_differences_are_named_and_judged_as_json():
    same = {"a": {"b": (1, 2), "c": 1.0}, "d": None}
    assert differing(same, {"a": {"b": [1, 2], "c": 1}, "d": None}) == {}
    found = differing({"a": {"b": 1, "gone": None}, "same": 0, "section": {"x": 1}}, {"a": {"b": 2}, "new": 3, "same": 0})
    assert list(found) == ["a.b", "a.gone", "new", "section"]
    assert found["a.b"] == (1, 2)
    assert [str(value) for value in found["a.gone"]] == ["None", "absent"]


def test_layers_defaults_then_file_then_overrides(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("input: from_file\nmedia:\n  max_faces: 5\n  fps: 12.5\nnote: ${input}!\n")
    job = load(Job, file, ["media.max_faces=7", "options.steps=40", "options.inner.rate=1e-3", "media.tile=[3,4]"])
    assert job == Job("from_file", "from_file!", False, Media(7, 12.5, (3, 4)), {"steps": 40, "inner": {"rate": 0.001}})
    assert isinstance(job, Job)
    assert isinstance(job.media, Media)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["inptu=a"], "did you mean 'input'"),
        (["input=a", "max_face=2"], "did you mean 'media.max_faces'"),
        (["input=a", "media.max_face=2"], "did you mean 'media.max_faces'"),
        (["input=a", "media=2"], "media is a section; set one of its keys: media.max_faces"),
        (["input=a", "media.max_faces=many"], "media.max_faces must be int, got 'many'"),
        (["input=a", "media.fps=["], "media.fps: '\\[' cannot be read as float"),
        (["input=a", "quick=perhaps"], "quick must be bool"),
        (["input"], "expected key=value"),
        (["quick=true"], "not set: input; add input=VALUE"),
    ],
)
def test_mistakes_on_the_command_line_are_explained(overrides, message):
    with pytest.raises(UsageError, match=message):
        load(Job, None, overrides)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("input: a\nmedia:\n  max_face: 2\n", "job.yaml: unknown key 'media.max_face'; did you mean 'media.max_faces'"),
        ("input: a\nmedia: 3\n", "job.yaml: media is a section"),
        ("input: a\ninput: b\n", "job.yaml: cannot be read as YAML"),
        ("- a\n- b\n", "job.yaml: must hold 'key: value' lines"),
        ("input: [a, b]\n", "job.yaml: input must be str"),
        ("input: ${nowhere}\n", "nowhere"),
        ("{", "job.yaml: cannot be read as YAML"),
    ],
)
def test_mistakes_in_a_file_name_the_file(tmp_path, content, message):
    (tmp_path / "job.yaml").write_text(content)
    with pytest.raises(UsageError, match=message):
        load(Job, tmp_path / "job.yaml")


def test_a_missing_file_lists_its_neighbours(tmp_path):
    (tmp_path / "other.yaml").write_text("")
    with pytest.raises(UsageError, match=r"no such configuration file; available: .*other\.yaml"):
        load(Job, tmp_path / "job.yaml")


def test_every_key_is_described_once():
    text = describe(Job)
    assert "media.max_faces: int = 3\n    Most people followed at once." in text
    assert "input: str (required)\n    What to read." in text
    assert "options: dict[str, Any] = {}\n    Free-form." in text
    assert [key.name for key in keys(Job)] == [
        "input",
        "note",
        "quick",
        "media.max_faces",
        "media.fps",
        "media.tile",
        "options",
    ]


@given(st.text().filter(lambda text: text != REQUIRED))
def test_typed_text_arrives_literally(text):
    assert load(Job, None, [f"input={text}"]).input == text


@given(st.text())
def test_any_override_is_read_or_refused_with_a_reason(text):
    key, equals, _ = text.partition("=")
    try:
        job = load(Job, None, ["input=a", text])
    except UsageError as refusal:
        reason = str(refusal)
    else:
        reason = ""
        assert isinstance(job, Job)
    known = key.split(".")[0] in {"input", "note", "quick", "media", "options"}
    assert reason.startswith("command line: ") or (equals and known and not reason)


@given(st.integers(-(2**53), 2**53), st.none() | st.floats(allow_nan=False), st.booleans())
def test_values_survive_yaml_and_dot_list(tmp_path_factory, faces, fps, quick):
    expected = Job("a", None, quick, Media(faces, fps))
    file = tmp_path_factory.mktemp("config") / "job.yaml"
    file.write_text(yaml.safe_dump({"input": "a", "quick": quick, "media": {"max_faces": faces, "fps": fps}}))
    typed = ["input=a", f"quick={quick}", f"media.max_faces={faces}", f"media.fps={'null' if fps is None else fps}"]
    assert load(Job, file) == expected
    assert load(Job, None, typed) == expected
