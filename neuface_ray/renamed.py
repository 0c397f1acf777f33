"""What has been renamed: the one table by which old datasets, trainings and configurations are read under the present names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from neuface_ray.errors import UsageError

METHODS: dict[str, str] = {"flame_fitting": "direct_fitting"}
"""Methods: former name -> present name."""

_NEUFACE_FITS = (
    "annotator.neuface.fit",
    "encoder.neuface.fit",
    "geometry.neuface.fit",
    "glvd_claims.neuface",
    "neuface_claims.neuface",
)
_FITS = (
    *_NEUFACE_FITS,
    "annotator.direct_fitting",
    "encoder.direct_fitting",
    "geometry.direct_fitting",
    "glvd_claims.direct_fitting",
    "neuface_claims.direct",
)

KEYS: dict[str, str | None] = {
    "annotator.flame_fitting": "annotator.direct_fitting",
    "encoder.settings": "encoder",
    "encoder.settings.flame_fitting": "encoder.direct_fitting",
    "encoder.settings.neuface": "encoder.neuface.fit",
    "geometry.settings": "geometry",
    "geometry.settings.flame_fitting": "geometry.direct_fitting",
    "geometry.settings.neuface": "geometry.neuface.fit",
    "glvd_claims.flame_fitting": "glvd_claims.direct_fitting",
    "cluster": "ray",
    "skins": "textures",
    "synthetic.skins": "synthetic.textures",
    "encoder.skins": "encoder.textures",
    "geometry.skins": "geometry.textures",
    "glvd_claims.skins": "glvd_claims.textures",
    "neuface_claims.skins": "neuface_claims.textures",
    "sculpted": "untextured",
    "synthetic.sculpted": "synthetic.untextured",
    "plain": "unshaded",
    "synthetic.plain": "synthetic.unshaded",
    "motion.odd": "motion.random_expressions",
    "neuface_claims.curve_passes": "neuface_claims.curve_iterations",
    "lvd.trust": "lvd.confidence",
    "glvd.trust": "glvd.confidence",
    **{f"{fit}.moves_from": f"{fit}.trainable_from" for fit in _NEUFACE_FITS},
    **{f"{fit}.passes": f"{fit}.iterations" for fit in _NEUFACE_FITS},
}
"""Keys and sections by their dotted names: former -> present; None: removed because it had no effect."""

VALUES: dict[str, dict[str, str]] = {
    **dict.fromkeys(("annotator.name", "recipe", "encoder.methods", "geometry.methods", "glvd_claims.methods"), METHODS),
    **{f"{fit}.objective.fidelity": {"released": "official_code"} for fit in _FITS},
}
"""Values that have been renamed: present name of the key -> former value -> present value; of lists, that of each member."""


def present_name(name: str, keys: Mapping[str, str | None] = KEYS) -> str | None:
    """The present dotted name of the key ``name``; None if it was removed because it had no effect.

    The longest renamed prefix counts, and what it leads to may have been renamed again; each line of ``keys`` is used once.
    """
    unused = dict(keys)
    while True:
        parts = name.split(".")
        prefixes = (".".join(parts[:depth]) for depth in range(len(parts), 0, -1))
        prefix = next((prefix for prefix in prefixes if prefix in unused), None)
        if prefix is None:
            return name
        present = unused.pop(prefix)
        if present is None:
            return None
        name = present + name.removeprefix(prefix)


def present_value(name: str, value: Any, values: Mapping[str, Mapping[str, str]] = VALUES) -> Any:
    """The present value of the key ``name``, of a list that of each member."""
    if isinstance(value, list):
        return [present_value(name, member, values) for member in value]
    return values.get(name, {}).get(value, value) if isinstance(value, str) else value


def renamed_in(settings: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Former and present dotted names of the renamed keys in nested ``settings``."""
    for name, _ in _flatten(settings, ""):
        if present_name(name) != name:
            yield name, present_name(name)


def translate(
    settings: Mapping[str, Any],
    keys: Mapping[str, str | None] = KEYS,
    values: Mapping[str, Mapping[str, str]] = VALUES,
) -> dict[str, Any]:
    """Nested ``settings`` under their present names and with the present names of values.

    Raises UsageError if a key is set under its former and its present name.
    """
    translated: dict[str, Any] = {}
    for name, value in _flatten(settings, ""):
        present = present_name(name, keys)
        if present is None:
            continue
        *sections, last = present.split(".")
        section = translated
        for part in sections:
            section = section.setdefault(part, {})
        if last in section:
            raise UsageError(f"{present} is set twice, also under a former name; set {present} alone")
        section[last] = present_value(present, value, values)
    return translated


def _flatten(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for part, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{part}.")
        else:
            yield f"{prefix}{part}", value
