"""Configurations are dataclasses: the fields are the keys and carry their documentation, so that it is written once.

A field is documented by the string that follows it in the class body, or by ``field(metadata={"help": ...})``.

Output that was made before a field existed is continued if the field has the value that stands for the behaviour of that time:
its default, or what it declares by ``field(metadata={"former": value})``. Who changes a default declares the old one so.

A run's configuration is the defaults of its dataclass, then a YAML file, then ``key=value`` overrides from the command line
(dotted keys reach into sections). Every key must exist and every value must have its field's type. In YAML files OmegaConf's
``${key}`` interpolation works; on the command line the text given for a ``str`` field is taken literally, so any file name can
be typed; only ``???`` alone means that the key is not set.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import itertools
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from neuface_ray.errors import UsageError

REQUIRED = "???"
"""Default of a ``str`` field that the user must set."""

Schema = TypeVar("Schema")


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


@dataclass(frozen=True)
class Key:
    """One settable key of a schema: its dotted name, type, default and meaning."""

    name: str
    type: Any
    default: Any
    meaning: str

    @property
    def type_name(self) -> str:
        return inspect.formatannotation(self.type).replace("typing.", "")


def load(schema: type[Schema], path: str | Path | None = None, overrides: Sequence[str] = ()) -> Schema:
    """An instance of the dataclass ``schema`` from its defaults, the YAML file ``path`` and ``key=value`` overrides.

    Raises:
        UsageError: missing or malformed file, unknown key (the nearest valid key is named), value of a wrong type, or a
            required key that nobody set.
    """
    config = OmegaConf.structured(schema)
    for section in ("", *_sections(schema)):
        OmegaConf.set_readonly(OmegaConf.select(config, section) if section else config, False)
    settings = list(_read_file(schema, Path(path))) if path is not None else []
    settings += [_read_override(schema, text) for text in overrides]
    for source, name, value in settings:
        _assign(schema, config, source, name, value)
    origin = str(path) if path is not None else "command line"
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise UsageError(f"not set: {', '.join(missing)}; add {' '.join(f'{name}=VALUE' for name in missing)}")
        return typing.cast(Schema, OmegaConf.to_object(config))
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise UsageError(f"{origin}: {_first_line(error)}") from error


def from_command_line(
    schema: type[Schema], about: str, arguments: Sequence[str] | None = None, program: str | None = None
) -> Schema:
    """The configuration that a command was given as ``[--config FILE] [key=value ...]``; ``--help`` shows every key.

    Args:
        about: what the command does, its docstring. arguments: those of the process if None.
        program: its name, as people type it.

    Raises:
        UsageError: as ``load``. SystemExit: after ``--help``, or for an option that does not exist.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description=about,
        epilog=f"keys:\n\n{describe(schema)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the keys below")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="sets a key, whatever the file says")
    options = parser.parse_intermixed_args(arguments)
    return load(schema, options.config, options.overrides)


def describe(schema: type) -> str:
    """The keys of ``schema`` for ``--help``: name, type, default and meaning of each."""
    lines = []
    for key in keys(schema):
        default = "(required)" if key.default == REQUIRED else f"= {_as_yaml(key.default)}"
        lines.append(f"{key.name}: {key.type_name} {default}")
        lines.append(textwrap.fill(key.meaning, width=110, initial_indent="    ", subsequent_indent="    "))
    return "\n".join(line for line in lines if line.strip())


@cache
def keys(schema: type) -> tuple[Key, ...]:
    """All settable keys of ``schema`` in the order of declaration; sections (nested dataclasses) are flattened."""
    return tuple(_walk(schema, "", schema()))


def former_settings(schema: type) -> dict[str, Any]:
    """For every key of ``schema``, nested, the value that stands for the behaviour before the key existed: its field's
    ``former`` metadata, else its default."""
    return _former(schema())


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


def attribute_docs(schema: type) -> dict[str, str]:
    """Meaning of each field: its ``help`` metadata, or the string literal that follows it in the class body."""
    docs = {field.name: field.metadata["help"] for field in fields(schema) if "help" in field.metadata}
    for cls in reversed(schema.__mro__):
        if not is_dataclass(cls):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
        for statement, following in itertools.pairwise(body):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                if is_text and isinstance(following.value.value, str):
                    docs.setdefault(statement.target.id, " ".join(following.value.value.split()))
    return docs


def _former(defaults: Any) -> dict[str, Any]:
    values = {field.name: field.metadata.get("former", getattr(defaults, field.name)) for field in fields(defaults)}
    return {name: _former(value) if is_dataclass(value) else value for name, value in values.items()}


def _differing(prefix: str, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name in sorted(stored.keys() | wanted.keys()):
        old, new = stored.get(name, ABSENT), wanted.get(name, ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differing(f"{prefix}{name}.", old, new)
        elif old != new:
            yield prefix + name, (old, new)


def _walk(schema: type, prefix: str, defaults: Any) -> Iterator[Key]:
    docs, hints = attribute_docs(schema), typing.get_type_hints(schema)
    for field in fields(schema):
        default = getattr(defaults, field.name)
        if is_dataclass(hints[field.name]):
            yield from _walk(hints[field.name], f"{prefix}{field.name}.", default)
        else:
            yield Key(prefix + field.name, hints[field.name], default, docs.get(field.name, ""))


def _sections(schema: type) -> set[str]:
    """Dotted names of the nested dataclasses."""
    parts = [key.name.split(".") for key in keys(schema)]
    return {".".join(name[:depth]) for name in parts for depth in range(1, len(name))}


def _read_file(schema: type, path: Path) -> Iterator[tuple[str, str, Any]]:
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path("configs")
        available = ", ".join(str(found) for found in sorted(folder.rglob("*.yaml"))) or "none"
        raise UsageError(f"{path}: no such configuration file; available: {available}")
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise UsageError(f"{path}: must hold 'key: value' lines, found a {type(content).__name__}")
    yield from _flatten(schema, str(path), content, "")


def _flatten(schema: type, source: str, content: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, str, Any]]:
    for part, value in content.items():
        name = f"{prefix}{part}"
        if name not in _sections(schema):
            yield source, name, value
        elif isinstance(value, Mapping):
            yield from _flatten(schema, source, value, f"{name}.")
        elif value is not None:
            raise UsageError(f"{source}: {name} is a section and takes 'key: value' lines, got {value!r}")


def _read_override(schema: type, text: str) -> tuple[str, str, Any]:
    source = "command line"
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{source}: expected key=value, got {text!r}")
    key = _find(schema, source, name)
    if _accepts_text(key.type):
        optional = type(None) in typing.get_args(key.type)
        return source, name, None if optional and value == "null" else _literal(value)
    try:
        return source, name, OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]), resolve=False)["value"]
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise UsageError(f"{source}: {name}: {value!r} cannot be read as {key.type_name}") from error


def _assign(schema: type, config: DictConfig, source: str, name: str, value: Any) -> None:
    key = _find(schema, source, name)
    try:
        OmegaConf.update(config, name, value, merge=False)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise UsageError(f"{source}: {name} must be {key.type_name}, got {value!r}") from error


def _find(schema: type, source: str, name: str) -> Key:
    """The key called ``name``; a name inside a free-form mapping (``dict`` field) belongs to that field."""
    for key in keys(schema):
        inside_mapping = name.startswith(f"{key.name}.") and typing.get_origin(key.type) is dict
        if inside_mapping:
            return Key(name, typing.get_args(key.type)[1], None, "")
        if name == key.name:
            return key
    names = [key.name for key in keys(schema)]
    if name in _sections(schema):
        inside = ", ".join(known for known in names if known.startswith(f"{name}."))
        raise UsageError(f"{source}: {name} is a section; set one of its keys: {inside}")
    raise UsageError(f"{source}: unknown key {name!r}; did you mean {_nearest(name, names)!r}? All keys: --help")


def _nearest(name: str, names: Sequence[str]) -> str:
    """The valid key most like ``name``, by its whole dotted name or by its last part."""

    def likeness(known: str) -> float:
        whole = difflib.SequenceMatcher(None, name, known).ratio()
        last = difflib.SequenceMatcher(None, name.split(".")[-1], known.split(".")[-1]).ratio()
        return whole + last

    return max(names, key=likeness)


def _accepts_text(annotation: Any) -> bool:
    """True for ``str`` and ``str | None``."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return set(typing.get_args(annotation)) <= {str, type(None)}
    return annotation is str


def _literal(text: str) -> str:
    """Escape OmegaConf's interpolation, so that the text means itself."""
    return re.sub(r"(\\*)\$\{", lambda found: found.group(1) * 2 + r"\${", text)


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
