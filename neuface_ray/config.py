"""Configurations are dataclasses: the fields are the keys and carry their documentation, so that it is written once.

A field is documented by the string that follows it in the class body, or by ``field(metadata={"help": ...})``.

A run's configuration is the defaults of its dataclass, then a YAML file, then ``key=value`` overrides from the command line
(dotted keys reach into sections). Every key must exist and every value must have its field's type. In YAML files OmegaConf's
``${key}`` interpolation works; on the command line the text given for a ``str`` field is taken literally, so any file name can
be typed; only ``???`` alone means that the key is not set.

Where a key chooses a section (`neuface_ray.sections`), reading takes two passes: the first finds what is chosen, the second
reads the keys of that alone. A file may hold sections of what is not chosen: they are checked and have no effect.
"""

from __future__ import annotations

import argparse
import copy
import difflib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from neuface_ray.config_files import find_config
from neuface_ray.errors import UsageError
from neuface_ray.renamed import present_name, present_value, renamed_in, translate
from neuface_ray.screen import CommandParser, show_error
from neuface_ray.sections import REQUIRED, Choice, Composition, Pick, attribute_docs, compose, restored

Schema = TypeVar("Schema")
COMMAND_LINE = "command line"


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


class _Request:
    """What a file and a command line ask for: first what is chosen, then the keys and sections that go with it."""

    def __init__(self, schema: type, path: str | Path | None, overrides: Sequence[str]):
        self.schema = schema
        self.source, self.content = COMMAND_LINE, {}
        if path is not None:
            file = find_config(path, getattr(schema, "config_kind", None))
            self.source = str(path if file == Path(path) else file)
            self.content = _present_content(self.source, _read_file(file))
        self.overrides = list(_present_overrides(overrides))
        self._compose(self.pick)

    def _compose(self, pick: Pick) -> None:
        self.composition = compose(self.schema, pick)
        self.keys, self.sections = _keys_and_sections(self.composition)

    def pick(self, key: str, default: Any) -> Any:
        """The value of a choosing key: from the command line, else the file, else the default."""
        for name, text in reversed(self.overrides):
            if name == key:
                return present_value(key, text if isinstance(default, str) else _parse(Key(name, list[str], default, ""), text))
        value: Any = self.content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return default if value is None else present_value(key, value)

    def choosing(self, choice: Choice, name: str) -> _Request:
        """The same request, but for ``choice``, which falls on ``name``."""

        def pick(key: str, default: Any) -> Any:
            wanted = name if isinstance(default, str) else [name]
            return wanted if key == choice.key else self.pick(key, default)

        other = copy.copy(self)
        other._compose(pick)
        return other

    def not_chosen(self, name: str) -> tuple[Choice, str] | None:
        """The choice, and what it did not fall on, that the key or section ``name`` belongs to."""
        for choice in self.composition.choices:
            part = name.removeprefix(choice.prefix).split(".")[0]
            if name.startswith(choice.prefix) and part in choice.among and part not in choice.names:
                return choice, part
        return None

    def find(self, source: str, name: str) -> Key:
        """The key called ``name``; a name inside a free-form mapping (``dict`` field) belongs to that field.

        Raises UsageError if there is none, or it belongs to what is not chosen.
        """
        for key in self.keys:
            if name.startswith(f"{key.name}.") and typing.get_origin(key.type) is dict:
                return Key(name, typing.get_args(key.type)[1], None, "")
            if name == key.name:
                return key
        if name in self.sections:
            inside = ", ".join(key.name for key in self.keys if key.name.startswith(f"{name}."))
            raise UsageError(f"{source}: {name} is a section; set one of its keys: {inside}")
        other = self.not_chosen(name)
        if other is not None:
            choice, part = other
            self.choosing(choice, part).find(source, name)
            now = ", ".join(choice.names) or "not set"
            raise UsageError(f"{source}: {name} is a setting of {choice.key}={part}, but {choice.key} is {now}")
        known = [key.name for group in _groups(self) for key in group.keys]
        raise UsageError(f"{source}: unknown key {name!r}; did you mean {_nearest(name, known)!r}? All keys: --help-all")


def load(schema: type[Schema], path: str | Path | None = None, overrides: Sequence[str] = ()) -> Schema:
    """An instance of the dataclass ``schema`` from its defaults, the YAML file ``path`` and ``key=value`` overrides.

    ``path`` may also be the name of a packaged file, for a schema that has a ``config_kind``, the folder where these lie.
    A key or value under a former name (`neuface_ray.renamed`) works; a line on stderr says the present one.

    Raises:
        UsageError: missing or malformed file, unknown key (the nearest valid key is named), value of a wrong type, a key on the
            command line that belongs to what is not chosen, or a required key that nobody set.
    """
    return _read(_Request(schema, path, overrides))


def from_command_line(
    schema: type[Schema],
    about: str,
    arguments: Sequence[str] | None = None,
    program: str | None = None,
    default: str | None = None,
) -> Schema:
    """The configuration that a command was given as ``[--config FILE] [key=value ...]``.

    ``--help`` shows the keys that go with what the file and the overrides beside it choose, ``--help-all`` every key.

    Args:
        about: what the command does, its docstring. arguments: those of the process if None.
        program: its name, as people type it. default: configuration file where none is named.

    Raises:
        UsageError: as ``load``. SystemExit: after help, or for an option that does not exist.
    """
    parser = CommandParser(
        prog=program, description=about, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False
    )
    parser.add_argument("-h", "--help", action="store_true", help="show the keys that go with what is chosen, and exit")
    parser.add_argument("--help-all", action="store_true", help="show every key there is, and exit")
    files = "YAML file with any of the keys below, or the name of a packaged one" + (f" (default {default})" if default else "")
    parser.add_argument("--config", metavar="NAME", default=default, help=files)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="sets a key, whatever the file says")
    options = parser.parse_intermixed_args(arguments)
    if options.help or options.help_all:
        request = _Request(schema, options.config, options.overrides)
        parser.epilog = f"keys:\n\n{_describe_all(request) if options.help_all else _describe(request)}"
        parser.print_help()
        raise SystemExit(0)
    return load(schema, options.config, options.overrides)


def describe(schema: type) -> str:
    """The keys of ``schema`` for ``--help``: name, type, default and meaning of each."""
    return _describe(_Request(schema, None, ()))


def keys(schema: type, path: str | Path | None = None, overrides: Sequence[str] = ()) -> tuple[Key, ...]:
    """The settable keys that go with what is chosen, as declared; sections (nested dataclasses) are flattened."""
    return _Request(schema, path, overrides).keys


def _read(request: _Request) -> Any:
    config = _writable(request)
    for name, value in _flatten(request, request.content, ""):
        _assign(request, config, request.source, name, value)
    for name, text in request.overrides:
        _assign(request, config, COMMAND_LINE, name, _parse(request.find(COMMAND_LINE, name), text))
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise UsageError(f"not set: {', '.join(missing)}; add {' '.join(f'{name}=VALUE' for name in missing)}")
        return restored(OmegaConf.to_object(config))
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise UsageError(f"{request.source}: {_first_line(error)}") from error


def _keys_and_sections(composition: Composition) -> tuple[tuple[Key, ...], frozenset[str]]:
    """All keys, and the dotted names of the nested dataclasses."""
    sections: set[str] = set()
    return tuple(_walk(composition.defaults, "", sections)), frozenset(sections)


def _walk(defaults: Any, prefix: str, sections: set[str]) -> Iterator[Key]:
    docs, hints = attribute_docs(type(defaults)), typing.get_type_hints(type(defaults))
    for field in fields(defaults):
        default = getattr(defaults, field.name)
        if is_dataclass(default):
            sections.add(prefix + field.name)
            yield from _walk(default, f"{prefix}{field.name}.", sections)
        else:
            yield Key(prefix + field.name, hints[field.name], default, docs.get(field.name, ""))


def _read_file(path: Path) -> Mapping[Any, Any]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise UsageError(f"{path}: must hold 'key: value' lines, found a {type(content).__name__}")
    return content


def _present_content(source: str, content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """A file's content under the present names of keys; says which have changed."""
    changed = dict(renamed_in(content))
    for former, present in changed.items():
        _say_renamed(source, former, present)
    return translate(content, values={}) if changed else content


def _present_overrides(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Present name of each key, and the text of its value; those that are gone are left out."""
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{COMMAND_LINE}: expected key=value, got {text!r}")
        present = present_name(name)
        if present != name:
            _say_renamed(COMMAND_LINE, name, present)
        if present is not None:
            yield present, value


def _present_value(source: str, name: str, value: Any) -> Any:
    present = present_value(name, value)
    if present != value:
        _say_renamed(source, f"{name}={value}", f"{name}={present}")
    return present


def _say_renamed(source: str, former: str, present: str | None) -> None:
    what = f"is now called {present}" if present else "had no effect and is gone"
    show_error(f"{source}: {former} {what}")


def _flatten(request: _Request, content: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """The file's keys and values; what belongs to sections that are not chosen is checked and left out."""
    for part, value in content.items():
        name = f"{prefix}{part}"
        other = request.not_chosen(name)
        if other is not None:
            _check_unused(request.choosing(*other), name, value)
        elif name not in request.sections:
            yield name, value
        elif isinstance(value, Mapping):
            yield from _flatten(request, value, f"{name}.")
        elif value is not None:
            raise UsageError(f"{request.source}: {name} is a section and takes 'key: value' lines, got {value!r}")


def _check_unused(request: _Request, section: str, value: Any) -> None:
    """Raises UsageError if a section has keys that do not exist or values of wrong types."""
    *parents, last = section.split(".")
    content = {last: value}
    prefix = "".join(f"{parent}." for parent in parents)
    config = _writable(request)
    for name, value in _flatten(request, content, prefix):
        _assign(request, config, request.source, name, value)


def _writable(request: _Request) -> DictConfig:
    config = OmegaConf.structured(request.composition.defaults)
    for section in ("", *request.sections):
        OmegaConf.set_readonly(OmegaConf.select(config, section) if section else config, False)
    return config


def _parse(key: Key, text: str) -> Any:
    """The value that was typed for a key. Raises UsageError if it cannot be read."""
    if _accepts_text(key.type):
        optional = type(None) in typing.get_args(key.type)
        return None if optional and text == "null" else _literal(text)
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)["value"]
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise UsageError(f"{COMMAND_LINE}: {key.name}: {text!r} cannot be read as {key.type_name}") from error


def _assign(request: _Request, config: DictConfig, source: str, name: str, value: Any) -> None:
    key = request.find(source, name)
    try:
        OmegaConf.update(config, name, _present_value(source, name, value), merge=False)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise UsageError(f"{source}: {name} must be {key.type_name}, got {value!r}") from error


@dataclass(frozen=True)
class _Group:
    """Keys that go together in the help: those of everybody, or of one of the things that a key chooses."""

    title: str
    keys: tuple[Key, ...]


def _groups(request: _Request) -> Iterator[_Group]:
    """All keys there are: first those that do not depend on a choice, then the sections of each choice."""
    sections = _chosen_sections(request)
    yield _Group("", tuple(key for key in request.keys if not key.name.startswith(sections)))
    yield from _groups_of(request, set())


def _groups_of(request: _Request, shown: set[str]) -> Iterator[_Group]:
    new = [choice for choice in request.composition.choices if choice.key not in shown]
    shown = shown | {choice.key for choice in new}
    for choice in new:
        for name, entry in choice.among.items():
            other = request.choosing(choice, name)
            inner = tuple(part for part in _chosen_sections(other) if part != f"{choice.prefix}{name}.")
            inside = [key for key in other.keys if key.name.startswith(f"{choice.prefix}{name}.")]
            title = f"with {choice.key}={name} ({entry.purpose}):"
            yield _Group(title, tuple(key for key in inside if not key.name.startswith(inner)))
            yield from _groups_of(other, shown)


def _chosen_sections(request: _Request) -> tuple[str, ...]:
    return tuple(f"{choice.prefix}{name}." for choice in request.composition.choices for name in choice.names)


def _describe(request: _Request, shown: Sequence[Key] | None = None) -> str:
    choices = {choice.key: choice for choice in request.composition.choices}
    lines = []
    for key in request.keys if shown is None else shown:
        default = "(required)" if key.default == REQUIRED else f"= {_as_yaml(key.default)}"
        lines.append(f"{key.name}: {key.type_name} {default}")
        lines.append(textwrap.fill(key.meaning, width=110, initial_indent="    ", subsequent_indent="    "))
        if key.name in choices:
            among = choices[key.name].among
            lines += [f"    {'*' if name in choices[key.name].names else '-'} {name}: {among[name].purpose}" for name in among]
    return "\n".join(line for line in lines if line.strip())


def _describe_all(request: _Request) -> str:
    parts = [f"{group.title}\n\n{_describe(request, group.keys)}".strip() for group in _groups(request) if group.keys]
    return "\n\n".join(parts)


def _nearest(name: str, names: Sequence[str]) -> str:
    """The valid key most like ``name``, by its whole dotted name or by its last part."""

    def likeness(known: str) -> float:
        full = difflib.SequenceMatcher(None, name, known).ratio()
        last = difflib.SequenceMatcher(None, name.split(".")[-1], known.split(".")[-1]).ratio()
        return full + last

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
