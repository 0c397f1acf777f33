"""Sections of a configuration, among them such that a key chooses: of these only the chosen one is composed.

A dataclass declares a chosen section as a field with ``metadata=chosen(by="name", among=entries)`` and calls `fill_chosen` in
its ``__post_init__``. In Python the field holds the settings of what is chosen. In files and on the command line the section
has the name of what is chosen: with ``name: glvd`` its keys are ``glvd.steps`` and so on. ``by`` may also be a list; then each
of its members has a section, and the field is a mapping from names to settings.
"""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import textwrap
import typing
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, make_dataclass
from importlib import import_module
from typing import Any

from neuface_ray.errors import UsageError

REQUIRED = "???"
"""Default of a ``str`` field that the user must set."""


@dataclass(frozen=True)
class Entry:
    """One of the things that a key can choose.

    Args:
        implementation: what does it, as ``module:Name``. settings: the dataclass of its settings, likewise; where it stands
            should be cheap to import. purpose: what it is for, one line.
    """

    implementation: str
    settings: str
    purpose: str


Entries = Callable[[], Mapping[str, Entry]]
Pick = Callable[[str, Any], Any]
"""The value of a choosing key, from its dotted name and its default."""


@dataclass(frozen=True)
class Chosen:
    """How a section is chosen: by which field beside it, among what."""

    by: str
    among: Entries


@dataclass(frozen=True)
class Choice:
    """A choice in a composition: its key, the prefix of its sections' names, what there was and what was chosen."""

    key: str
    prefix: str
    among: Mapping[str, Entry]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Composition:
    """The sections that go with some choices.

    Args:
        defaults: an instance of a dataclass whose fields are the keys by their names in files.
    """

    defaults: Any
    choices: tuple[Choice, ...]


def load_object(place: str) -> Any:
    """What stands at ``module:Name``. Raises UsageError if nothing does, or the module cannot be imported."""
    module, _, name = place.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{place} cannot be loaded: {error}") from error


def chosen(by: str, among: Entries) -> dict[str, Any]:
    """Metadata of a dataclass field, default None, for the section that the field ``by`` chooses among the entries."""
    return {"chosen": Chosen(by, among)}


def fill_chosen(config: Any) -> None:
    """Gives the chosen sections of a new instance their defaults where none were given.

    Raises:
        UsageError: nothing has the chosen name, or the settings are of another type than it takes.
    """
    for each in fields(config):
        if "chosen" not in each.metadata:
            continue
        choice: Chosen = each.metadata["chosen"]
        wanted, value = getattr(config, choice.by), getattr(config, each.name)
        key = f"{type(config).__name__}: {choice.by}"
        if isinstance(wanted, str):
            names = () if wanted == REQUIRED else (wanted,)
            parts = {name: _settings(choice.among(), key, name, value) for name in names}
            value = parts.get(wanted)
        else:
            value = {name: _settings(choice.among(), key, name, (value or {}).get(name)) for name in wanted}
        object.__setattr__(config, each.name, value)


def entry_of(among: Mapping[str, Entry], key: str, name: Any) -> Entry:
    """The entry called ``name``, for the value of ``key``. Raises UsageError if there is none."""
    if name not in among:
        raise UsageError(f"{key}={name!r} does not exist; choose from {', '.join(among)}")
    return among[name]


def compose(schema: type, pick: Pick = lambda key, default: default) -> Composition:
    """The sections of ``schema`` with those that ``pick`` chooses.

    Raises:
        UsageError: nothing has a chosen name, or it has the name of another key.
    """
    choices: list[Choice] = []
    defaults = _composed(schema(), "", pick, choices)
    return Composition(defaults, tuple(choices))


def restored(found: Any) -> Any:
    """The instance of the schema that an instance of a composed dataclass stands for."""
    schema = getattr(found, "__schema__", None)
    if schema is None:
        return found
    values = {}
    for each in fields(schema):
        if "chosen" not in each.metadata:
            values[each.name] = restored(getattr(found, each.name))
            continue
        sections = {name: restored(getattr(found, name)) for name in found.__chosen__[each.name]}
        several = not isinstance(getattr(found, each.metadata["chosen"].by), str)
        values[each.name] = sections if several else next(iter(sections.values()), None)
    return schema(**values)


def chosen_settings(config: Any, field: Field) -> dict[str, Any]:
    """The settings that a chosen field of ``config`` holds, by the name of what is chosen; empty where nothing is."""
    by, value = getattr(config, field.metadata["chosen"].by), getattr(config, field.name)
    named = {by: value} if isinstance(by, str) else value
    return {name: settings for name, settings in named.items() if settings is not None}


def as_mapping(config: Any) -> dict[str, Any]:
    """A configuration as nested mappings with the names that its keys have in files."""
    values: dict[str, Any] = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if "chosen" in each.metadata:
            values |= {name: as_mapping(settings) for name, settings in chosen_settings(config, each).items()}
        else:
            values[each.name] = as_mapping(value) if is_dataclass(value) else copy.deepcopy(value)
    return values


def attribute_docs(schema: type) -> dict[str, str]:
    """Meaning of each field: its ``help`` metadata, or the string literal that follows it in the class body."""
    docs = {field.name: field.metadata["help"] for field in fields(schema) if "help" in field.metadata}
    for cls in reversed(schema.__mro__):
        if not is_dataclass(cls) or "__schema__" in vars(cls):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
        for statement, following in itertools.pairwise(body):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                if is_text and isinstance(following.value.value, str):
                    docs.setdefault(statement.target.id, " ".join(following.value.value.split()))
    return docs


def _settings(among: Mapping[str, Entry], key: str, name: str, settings: Any) -> Any:
    schema = load_object(entry_of(among, key, name).settings)
    if settings is not None and not isinstance(settings, schema):
        raise UsageError(f"{key}={name!r} takes {schema.__name__}, got {type(settings).__name__}")
    return schema() if settings is None else settings


def _composed(config: Any, prefix: str, pick: Pick, choices: list[Choice]) -> Any:
    """``config`` as an instance of a dataclass with a field for every chosen section; itself where there is none below it."""
    schema, before = type(config), len(choices)
    hints, docs, values = typing.get_type_hints(schema), attribute_docs(schema), {}
    types: dict[str, Any] = {}
    sections: dict[str, tuple[str, ...]] = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if "chosen" in each.metadata:
            found = _chosen_sections(config, each, prefix, pick, choices)
            sections[each.name] = tuple(found)
            docs |= {name: choices[-1].among[name].purpose for name in found}
        else:
            found = {each.name: _composed(value, f"{prefix}{each.name}.", pick, choices) if is_dataclass(value) else value}
        for name, part in found.items():
            if name in values:
                raise UsageError(f"{prefix}{name}: what is chosen may not be called as another key is")
            values[name], types[name] = part, type(part) if is_dataclass(part) else hints[name]
    if len(choices) == before:
        return config
    members = [(name, types[name], _default(value, docs.get(name, ""))) for name, value in values.items()]
    return make_dataclass(schema.__name__, members, namespace={"__schema__": schema, "__chosen__": sections})()


def _chosen_sections(config: Any, each: Any, prefix: str, pick: Pick, choices: list[Choice]) -> dict[str, Any]:
    """The chosen sections by name, composed; notes the choice first."""
    rule: Chosen = each.metadata["chosen"]
    key, default, among = f"{prefix}{rule.by}", getattr(config, rule.by), rule.among()
    wanted = pick(key, default)
    if isinstance(default, str):
        names = [] if wanted == REQUIRED else [str(wanted)]
    else:
        names = list(wanted) if isinstance(wanted, list | tuple) else []
    present = getattr(config, each.name)
    defaults = present if isinstance(present, Mapping) else {default: present}
    choice = Choice(key, prefix, among, tuple(dict.fromkeys(names)))
    sections: dict[str, Any] = {}
    inner: list[Choice] = []
    for name in choice.names:
        entry = entry_of(among, key, name)
        settings = defaults.get(name) or load_object(entry.settings)()
        sections[name] = _composed(settings, f"{prefix}{name}.", pick, inner)
    choices += [*inner, choice]
    return sections


def _default(value: Any, meaning: str) -> Any:
    return field(default_factory=lambda: copy.deepcopy(value), metadata={"help": meaning})
