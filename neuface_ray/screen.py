"""What people read on a terminal: without credentials, and without characters that would command the terminal.

Names of files come from strangers. One may hold escape sequences that recolour, overwrite or retype what the terminal shows, or
marks that turn the direction of writing around; they are shown as ``\\x1b`` and do nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import IO, TextIO

from neuface_ray.uri import redact_text

_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text without credentials, its control characters but line break and tabulator shown as escapes."""
    return _COMMANDS.sub(lambda found: found.group().encode("unicode_escape").decode(), redact_text(text))


def printable_line(text: str) -> str:
    """The same in one line, for a name or a message inside a larger text."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def show(*texts: str, file: TextIO | None = None) -> None:
    """Prints each text, made printable, on a line of its own; on standard output unless ``file`` is given."""
    for text in texts:
        print(printable(str(text)), file=file or sys.stdout, flush=True)


def show_error(text: str) -> None:
    """Prints a text, made printable, on standard error."""
    show(text, file=sys.stderr)


class CommandParser(argparse.ArgumentParser):
    """A parser whose help and errors are printable: it repeats arguments that it does not know."""

    def _print_message(self, message: str, file: IO[str] | None = None) -> None:
        super()._print_message(printable(message), file)
