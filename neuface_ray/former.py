"""Settings of earlier versions beside present ones: what a key that they lack stands for, and in what the two differ.

Output that was made before a field existed is continued if the field has the value that stands for the behaviour of that time:
its default, or what it declares by ``field(metadata={"former": value})``. Who changes a default declares the old one so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from neuface_ray.sections import chosen_settings


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


def former_settings(config: Any) -> dict[str, Any]:
    """For every key of a configuration, nested and named as in files, the value that stands for the behaviour before the key
    existed: its field's ``former`` metadata, else its default."""
    return _former(config, type(config)())


def complete(stored: Mapping[str, Any], former: Mapping[str, Any]) -> dict[str, Any]:
    """``stored`` settings with the keys that they lack from ``former``, section by section."""
    completed = dict(former) | dict(stored)
    for name in former.keys() & stored.keys():
        if isinstance(stored[name], Mapping) and isinstance(former[name], Mapping):
            completed[name] = complete(stored[name], former[name])
    return completed


def differing(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The dotted names whose values differ as JSON, with both values, sorted; ``ABSENT`` stands for a key that is not there."""
    return dict(_differing("", json.loads(json.dumps(stored)), json.loads(json.dumps(wanted))))


def _former(config: Any, defaults: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for each in fields(config):
        value, default = getattr(config, each.name), getattr(defaults, each.name)
        if "chosen" in each.metadata:
            values |= {name: _former(settings, type(settings)()) for name, settings in chosen_settings(config, each).items()}
        else:
            values[each.name] = _former(value, default) if is_dataclass(value) else each.metadata.get("former", default)
    return values


def _differing(prefix: str, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name in sorted(stored.keys() | wanted.keys()):
        old, new = stored.get(name, ABSENT), wanted.get(name, ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differing(f"{prefix}{name}.", old, new)
        elif old != new:
            yield prefix + name, (old, new)
