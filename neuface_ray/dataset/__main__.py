"""Look after a dataset: ``python -m neuface_ray.dataset {info,verify,publish,delete} DIR``.

Exit codes: 0 done (verify: sound), 1 problems were found or the work could not be done, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from neuface_ray.dataset.delete import delete
from neuface_ray.dataset.descriptor import read_descriptor
from neuface_ray.dataset.publish import publish
from neuface_ray.dataset.reader import MeshDataset
from neuface_ray.dataset.schema import TABLES
from neuface_ray.dataset.storage import open_store
from neuface_ray.dataset.verify import verify
from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.screen import CommandParser, show, show_error


def main(arguments: Sequence[str] | None = None, program: str = "python -m neuface_ray.dataset") -> int:
    """Runs one command; returns 0 for a sound dataset, 1 for problems, 2 for wrong usage."""
    parser = CommandParser(prog=program, description="Look after a dataset.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("info", "what it holds and how it was made"),
        ("verify", "check every file, hash, row and key"),
        ("publish", "publish what is staged; completes an interrupted publish"),
        ("delete", "remove a person or a recording from every table, file and version, for ever"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("path", metavar="DIR", help="folder or URL of the dataset")
        if name == "verify":
            command.add_argument("--repair", action="store_true", help="mend what can be mended without losing a row")
            command.add_argument(
                "--discard-damaged", action="store_true", help="take damaged parts out, so that the next run makes them again"
            )
        if name == "delete":
            command.add_argument("match", metavar="person=NAME", help="or sequence_id=NAME")
    options = parser.parse_args(arguments)
    try:
        return {"info": _info, "verify": _verify, "publish": _publish, "delete": _delete}[options.command](options)
    except UsageError as error:
        show_error(f"error: {error}")
        return 2
    except NeufaceError as error:
        show_error(f"error: {error}")
        return 1
    except Exception:
        show_error(traceback.format_exc())  # it may hold what the user typed
        return 1


def _info(options: argparse.Namespace) -> int:
    dataset = MeshDataset(open_store(options.path))
    for key in ("annotator", "head_model", "config_hash", "code_version", "created"):
        show(f"{key:16}{dataset.descriptor.get(key)}")
    for key, value in dataset.totals().items():
        show(f"{key:16}{value}")
    for name in TABLES:
        rows = sum(table.num_rows for table in dataset.scan(name, ["segment_id"]))
        show(f"{name:16}{rows} rows in {len(dataset.files(name))} files")
    return 0


def _verify(options: argparse.Namespace) -> int:
    report = verify(options.path, options.repair, options.discard_damaged)
    for problem in report.repaired:
        show(f"repaired   {problem}")
    for problem in report.problems:
        show(f"problem    {problem}")
    rows = ", ".join(f"{report.rows[name]} {name}" for name in TABLES)
    show(f"{'sound' if report.sound else f'{len(report.problems)} problems'}: snapshot {report.snapshot}, {rows}")
    return 0 if report.sound else 1


def _publish(options: argparse.Namespace) -> int:
    store = open_store(options.path)
    read_descriptor(store)
    snapshot = publish(store)
    show(f"snapshot {snapshot.number}: {len(snapshot.parts)} parts, {snapshot.rows()}")
    return 0


def _delete(options: argparse.Namespace) -> int:
    key, separator, value = options.match.partition("=")
    if not separator:
        raise UsageError(f"{options.match!r}: name whom to delete, as person=NAME or sequence_id=NAME")
    rows = delete(options.path, **{key: value})
    show("deleted " + ", ".join(f"{count} {name}" for name, count in rows.items()))
    show("They are kept out from now on, also if nothing of theirs was there.")
    show("report/ and run.json were removed too. Copies and pictures elsewhere are not reached by this.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
