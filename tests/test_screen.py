"""What reaches a terminal commands nothing and tells no secret."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from neuface_ray import cli
from neuface_ray.dataset import __main__ as commands
from neuface_ray.dataset.__main__ import main as look_after
from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.screen import printable, printable_line

ADDRESS = "s3://KEY:SEC/RET#WORD@bucket/out?pwd=SIGNED"
SECRETS = ("KEY", "SEC", "RET", "WORD", "SIGNED")


def test_control_characters_are_shown_and_do_nothing() -> None:
    assert printable("a\x1b]0;title\x07\r\n\tb\x9b2J\u202e") == "a\\x1b]0;title\\x07\\r\n\tb\\x9b2J\\u202e"
    assert printable_line("a\nb") == "a\\nb"
    assert printable("Łódź, 東京, café, 😀") == "Łódź, 東京, café, 😀"


@pytest.mark.parametrize("error", [UsageError, NeufaceError, ValueError])
def test_errors_reach_the_screen_in_one_place(error: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise error(f"cannot open {ADDRESS} of \x1b[31mred.mp4")

    assert cli._exit_code(command, failed="the run failed") == (2 if error is UsageError else 1)
    shown = capsys.readouterr().err
    assert "bucket/out" in shown
    assert not [word for word in (*SECRETS, "\x1b") if word in shown]


def exit_code(command: Callable[[list[str]], int], arguments: list[str]) -> object:
    try:
        return command(arguments)
    except SystemExit as end:  # argparse's way
        return end.code


@pytest.mark.parametrize(
    "arguments",
    [["input=" + ADDRESS], [f"seed={ADDRESS}", "input=a", "output=b"], [f"--config={ADDRESS}"], [f"--{ADDRESS}"], [ADDRESS]],
)
def test_wrong_arguments_are_repeated_without_secrets(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for command in (cli.annotate, look_after):
        assert exit_code(command, arguments) == 2
        shown = capsys.readouterr().err
        assert not [word for word in SECRETS if word in shown], shown


def test_unexpected_errors_of_the_dataset_commands_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def fail(path: str, *_: object) -> None:
        raise ValueError(f"cannot open {path}")

    monkeypatch.setattr(commands, "verify", fail)
    assert look_after(["verify", ADDRESS]) == 1
    shown = capsys.readouterr().err
    assert "ValueError: cannot open s3://bucket/out" in shown
    assert not [word for word in SECRETS if word in shown], shown
