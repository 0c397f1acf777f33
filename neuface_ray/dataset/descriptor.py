"""The descriptor ``dataset.json``: what the rows were made with, and whether new rows may join them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from neuface_ray.dataset.privacy import clean_config
from neuface_ray.dataset.rows import ROWS_VERSION, Provenance
from neuface_ray.dataset.schema import SCHEMA_VERSIONS, TABLES
from neuface_ray.dataset.storage import Store
from neuface_ray.errors import UsageError
from neuface_ray.former import complete, differing
from neuface_ray.renamed import METHODS, translate

DESCRIPTOR = "dataset.json"
COPY = "_descriptor.json"
"""``dataset.json`` as it was at the beginning: written once, before it, and never changed; it stands in when that is lost."""
_CONTENT = (*TABLES, "_staged", "_snapshots")
_REPAIR = "python -m neuface_ray.dataset verify DIR --repair"
_MAKERS = {"shared": "the shared media, gate and head code", "method": "the method"}


def make_descriptor(provenance: Provenance) -> dict[str, Any]:
    """The descriptor of a dataset whose rows are made with ``provenance``.

    ``code_version``, ``config_hash`` and ``created`` are recorded and never compared.
    """
    return {
        "schema_version": provenance.schema_version,
        "annotator": provenance.annotator,
        "head_model": provenance.head_model,
        "rows_version": {"shared": ROWS_VERSION, "method": provenance.method_version},
        "code_version": provenance.code_version,
        "seed": provenance.seed,
        "model_hashes": provenance.model_hashes,
        "config_hash": provenance.config_hash,
        "config": json.loads(json.dumps(provenance.config)),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def read_descriptor(store: Store) -> dict[str, Any]:
    """``dataset.json``. Raises UsageError if there is none or it cannot be read."""
    try:
        return json.loads(store.read(DESCRIPTOR))
    except FileNotFoundError as error:
        if store.exists(COPY):
            raise UsageError(f"{store.root} has lost its {DESCRIPTOR}; `{_REPAIR}` restores it from {COPY}") from error
        raise UsageError(f"{store.root} is not a dataset: it has no {DESCRIPTOR}") from error
    except ValueError as error:
        raise UsageError(f"{store.root}/{DESCRIPTOR} is damaged ({error}); `{_REPAIR}` restores it from {COPY}") from error


def claim(store: Store, provenance: Provenance, former: Mapping[str, Any]) -> list[str]:
    """Writes the descriptor if the dataset is new; else returns how the rows that are there were made differently.

    A descriptor that is lost is restored from its copy. Raises UsageError if that is lost too and there are rows: nobody knows
    then what may join them.
    """
    if not store.exists(DESCRIPTOR):
        if not store.exists(COPY):
            if any(store.names(folder) for folder in _CONTENT) and not store.exists(DESCRIPTOR):
                raise UsageError(
                    f"{store.root} holds rows, but {DESCRIPTOR} and {COPY} are lost, so that it is not known what they were "
                    "made with; restore one of them or use another output"
                )
            store.create(COPY, json.dumps(make_descriptor(provenance), indent=2).encode())
        restore_descriptor(store)
    elif not store.exists(COPY):  # from before there was one
        store.create(COPY, store.read(DESCRIPTOR))
    return differences(read_descriptor(store), make_descriptor(provenance), former)


def restore_descriptor(store: Store, replace: bool = False) -> None:
    """Write ``dataset.json`` from its copy; ``replace``: also if there is one."""
    (store.replace if replace else store.create)(DESCRIPTOR, store.read(COPY))


def is_restorable(store: Store) -> bool:
    """The copy of the descriptor is there and can be read."""
    try:
        return isinstance(json.loads(store.read(COPY)), dict)
    except (FileNotFoundError, ValueError):
        return False


def of_dataset(store: Store, provenance: Provenance) -> Provenance:
    """``provenance`` with the schema version of the dataset, which new rows have too."""
    return replace(provenance, schema_version=read_descriptor(store)["schema_version"])


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], former: Mapping[str, Any] | None = None) -> list[str]:
    """Why rows of the descriptor ``wanted`` may not join those of ``stored``, a line for each reason; empty if they may.

    An earlier version of the schema is no reason: new rows are written with its columns (``of_dataset``).

    Args:
        former: for keys of ``config`` that ``stored`` may lack because they did not exist: the value that stands for the
            behaviour of that time. A key of ``stored`` that does not exist any more is a difference.
    """
    recorded = stored.get("annotator")
    stored, wanted = _comparable(stored, former or {}), _comparable(wanted, {})
    if stored["schema_version"] in SCHEMA_VERSIONS:
        wanted["schema_version"] = stored["schema_version"]
    there, now = stored["annotator"], wanted["annotator"]
    lines = []
    if there != now:
        lines.append(_other_method(stored, recorded, now))
        for descriptor in (stored, wanted):
            _leave_out_method(descriptor, {there, now})
    for what, made_by in _MAKERS.items():
        old, new = stored["rows_version"].pop(what, None), wanted["rows_version"].pop(what, None)
        if old != new:
            made_by += f" {now}" if what == "method" else ""
            age = "an earlier" if old < new else "a later"
            lines.append(
                f"made by {age} version of {made_by}: its results changed (rows_version.{what}: {old} there, {new} now)"
            )
    return lines + [f"{name}: {old!r} there, {new!r} now" for name, (old, new) in differing(stored, wanted).items()]


def without_other_methods(annotator: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``annotator`` (``name`` and a section for each method) with the chosen method's section alone."""
    chosen = annotator.get("name")
    return {key: value for key, value in annotator.items() if key == chosen or not isinstance(value, Mapping)}


def _comparable(descriptor: Mapping[str, Any], former: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared, under the present names; without a ``rows_version`` it is from before there was one, which was 1."""
    config = complete(translate(descriptor.get("config", {})), former)
    if isinstance(config.get("annotator"), Mapping):
        config["annotator"] = without_other_methods(config["annotator"])
    method = descriptor.get("annotator")
    return {
        "schema_version": descriptor.get("schema_version"),
        "annotator": METHODS.get(method, method),
        "head_model": descriptor.get("head_model"),
        "rows_version": {"shared": 1, "method": 1} | descriptor.get("rows_version", {}),
        "seed": descriptor.get("seed"),
        "model_hashes": {METHODS.get(name, name): value for name, value in descriptor.get("model_hashes", {}).items()},
        "config": clean_config(config),
    }


def _other_method(stored: Mapping[str, Any], there: Any, now: Any) -> str:
    if "annotator" not in stored["config"]:
        return f"annotator: {there!r} there, {now!r} now"
    setting = f"annotator.name={there}"
    return f"made with {setting}, not {now}; to continue it set {setting} (or --config {there})"


def _leave_out_method(descriptor: dict[str, Any], methods: set[Any]) -> None:
    """Takes out of a comparable descriptor what depends on the method."""
    del descriptor["annotator"], descriptor["rows_version"]["method"]
    descriptor["config"].pop("annotator", None)
    descriptor["model_hashes"] = {name: value for name, value in descriptor["model_hashes"].items() if name not in methods}
