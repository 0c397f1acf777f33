"""The registry: what the folders offer can be loaded, asking costs nothing, other packages join or are refused."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from neuface_ray.config import keys, load
from neuface_ray.errors import UsageError
from neuface_ray.heads import load_head
from neuface_ray.methods import registry
from neuface_ray.methods.annotator import Annotator
from neuface_ray.methods.recipe import Recipe
from neuface_ray.methods.registry import AnnotatorConfig, Method
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.sections import load_object


@pytest.fixture
def offered(monkeypatch, tmp_path):
    """Installs a package that offers a method, and forgets it afterwards."""

    def install(package: str, content: str, point: str = "") -> None:
        (tmp_path / f"{package}.py").write_text(textwrap.dedent(content))
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[neuface_ray.methods]\n{package} = {point or package + ':METHOD'}\n")
        registry.methods.cache_clear()

    monkeypatch.syspath_prepend(tmp_path)
    yield install
    registry.methods.cache_clear()
    sys.modules.pop("guest", None)


METHOD = """
    from neuface_ray.methods.registry import Method
    from neuface_ray.sections import Entry

    SETTINGS = "neuface_ray.methods.encoder.settings:EncoderSettings"
    METHOD = Method(annotators={{"{name}": Entry("{here}", SETTINGS, "is there")}})
"""


def test_all_that_the_folders_offer_is_there_under_its_own_name():
    for name, entry in registry.annotators().items():
        assert load_object(entry.implementation).name == name
        assert issubclass(load_object(entry.implementation), Annotator)
        assert keys(load_object(entry.settings))
    for name, entry in registry.recipes().items():
        assert load_object(entry.implementation).name == name
        assert issubclass(load_object(entry.implementation), Recipe)
        assert keys(load_object(entry.settings))
    for kind, place in registry.networks().items():
        assert load_object(place).kind == kind


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        (
            "from neuface_ray.methods import registry; registry.annotators(), registry.recipes(), registry.networks()",
            ["torch", "mediapipe", "cv2", "ray", "numpy"],
        ),
        (
            "from neuface_ray.config import keys; from neuface_ray.methods.registry import AnnotatorConfig, annotators\n"
            "for name in annotators(): keys(AnnotatorConfig, None, [f'name={name}'])",
            ["torch", "mediapipe", "cv2", "ray"],
        ),
        (
            "from neuface_ray.config import load; from neuface_ray.pipeline.config import AnnotateConfig\n"
            "load(AnnotateConfig, None, ['input=a', 'output=b', 'annotator.name=neuface'])",
            ["torch", "ray"],
        ),
        ("import neuface_ray.evaluation.run", ["torch", "mediapipe", "cv2", "ray"]),
    ],
)
def test_asking_imports_no_implementation(code, heavy):
    check = f"{code}\nimport sys; print(*[name for name in {heavy!r} if name in sys.modules])"
    check += (
        "\nprint(*[n for n in sys.modules if n.startswith('neuface_ray.methods.') and n.endswith(('annotator', 'recipe'))])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_another_package_joins(offered):
    offered("guest", METHOD.format(name="guest", here="guest:Way"))
    assert registry.annotators()["guest"].purpose == "is there"
    config = load(AnnotateConfig, None, ["input=a", "output=b", "annotator.name=guest", "annotator.guest.path=w"])
    assert config.annotator.settings.path == "w"
    with pytest.raises(UsageError, match="guest:Way cannot be loaded"):
        registry.build_annotator(config.annotator, load_head())


def test_an_implementation_that_calls_itself_otherwise_is_refused(offered):
    offered("guest", METHOD.format(name="guest", here="neuface_ray.methods.encoder.annotator:EncoderAnnotator"))
    with pytest.raises(UsageError, match="calls itself 'encoder', but it is registered as 'guest'"):
        registry.build_annotator(AnnotatorConfig("guest", "cpu"), load_head())


def test_two_packages_with_one_name_are_both_named(offered):
    offered("guest", METHOD.format(name="lvd", here="guest:Way"))
    with pytest.raises(UsageError, match=r"neuface_ray\.methods\.lvd and guest both offer the annotator 'lvd'"):
        registry.annotators()
    assert "glvd" in registry.recipes()


@pytest.mark.parametrize(
    ("content", "point", "reason"),
    [
        ("import nowhere_at_all", "", "guest:METHOD cannot be loaded: No module named 'nowhere_at_all'"),
        ("", "", "guest:METHOD cannot be loaded"),
        ("METHOD = 3", "", f"guest:METHOD is not a {Method.__name__}"),
    ],
)
def test_a_package_that_cannot_be_used_is_named(offered, content, point, reason):
    offered("guest", content, point)
    with pytest.raises(UsageError, match=reason):
        registry.annotators()


def test_what_rows_depend_on_has_the_chosen_method_alone():
    config = load(AnnotateConfig, None, ["input=a", "output=b", "annotator.name=encoder", "annotator.encoder.path=w"])
    settings = {"kind": "compact", "path": "w", "share_identity": True}
    assert config.row_settings()["annotator"] == {"name": "encoder", "encoder": settings}
