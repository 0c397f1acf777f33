"""Which methods there are: the folders beside this file, and what other packages offer.

A folder ``methods/NAME`` says in its ``__init__`` what it offers as ``METHOD = Method(...)``. Another package does so through
an entry point of the group ``neuface_ray.methods`` that leads to a `Method`. All names are strings, so that asking which
methods there are imports none of them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

import neuface_ray.methods
from neuface_ray.errors import UsageError
from neuface_ray.sections import Entry, chosen, entry_of, fill_chosen, load_object

if TYPE_CHECKING:
    from neuface_ray.heads import HeadModel
    from neuface_ray.methods.annotator import Annotator
    from neuface_ray.methods.recipe import Recipe

GROUP = "neuface_ray.methods"


@dataclass(frozen=True)
class Method:
    """What a folder or a package offers, each under the name by which configurations choose it.

    Args:
        annotators: ways of annotating, built as ``implementation(head, settings, device)``.
        recipes: ways of training, built as ``implementation(settings, head)``.
        networks: networks by the kind that their weight files state, as ``module:Class``.
    """

    annotators: Mapping[str, Entry] = field(default_factory=dict)
    recipes: Mapping[str, Entry] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)


def annotators() -> dict[str, Entry]:
    """All ways of annotating by name. Raises UsageError as `methods` does."""
    return _joined("annotator", lambda method: method.annotators)


def recipes() -> dict[str, Entry]:
    """All ways of training by name. Raises UsageError as `methods` does."""
    return _joined("recipe", lambda method: method.recipes)


def networks() -> dict[str, str]:
    """Places of all network classes by kind. Raises UsageError as `methods` does."""
    return _joined("network", lambda method: method.networks)


@cache
def methods() -> dict[str, Method]:
    """What every package of methods offers, by the package's name.

    Raises:
        UsageError: a package of the entry point group cannot be imported, or does not lead to a `Method`.
    """
    package = neuface_ray.methods
    folders = [f"{package.__name__}.{found.name}" for found in pkgutil.iter_modules(package.__path__) if found.ispkg]
    offered = {folder: import_module(folder).METHOD for folder in folders}
    for point in metadata.entry_points(group=GROUP):
        method = load_object(point.value)
        if not isinstance(method, Method):
            raise UsageError(f"entry point {point.name} of {GROUP}: {point.value} is not a {Method.__name__}")
        offered[point.value.partition(":")[0]] = method
    return offered


@dataclass
class AnnotatorConfig:
    """The way of annotating, and its settings."""

    name: str = "neuface"
    """Way of annotating."""
    device: str = "auto"
    """Torch device; auto takes the GPU where one is visible."""
    settings: Any = field(default=None, metadata=chosen(by="name", among=annotators))

    def __post_init__(self) -> None:
        fill_chosen(self)


def build_annotator(config: AnnotatorConfig, head: HeadModel) -> Annotator:
    """The annotator that ``config.name`` names, on ``head``.

    Raises:
        UsageError: a weight file that is missing or does not match.
    """
    entry = entry_of(annotators(), "annotator.name", config.name)
    annotator = load_object(entry.implementation)(head, config.settings, config.device)
    if annotator.name != config.name:
        raise UsageError(f"{entry.implementation} calls itself {annotator.name!r}, but it is registered as {config.name!r}")
    return annotator


def build_recipe(name: str, settings: Any, head: HeadModel) -> Recipe:
    """The recipe called ``name``. Raises UsageError if there is none."""
    return load_object(entry_of(recipes(), "recipe", name).implementation)(settings, head)


def _joined(what: str, part: Callable[[Method], Mapping[str, Any]]) -> dict[str, Any]:
    """One part of all methods. Raises UsageError if two packages use one name."""
    joined, origin = {}, {}
    for package, method in methods().items():
        for name, value in part(method).items():
            if name in origin:
                raise UsageError(f"{origin[name]} and {package} both offer the {what} {name!r}; uninstall one of them")
            joined[name], origin[name] = value, package
    return joined
