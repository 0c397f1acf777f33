"""The program ``neuface``: its commands, their help, and one table of exit codes."""

import subprocess
import sys

import pytest

import neuface_ray
from neuface_ray import cli


def test_it_lists_its_commands(capsys):
    assert cli.main(["--help"]) == cli.main([]) == cli.DONE
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in ("annotate", "report", "train", "evaluate", "synthesize", "dataset"))
    assert cli.main(["--version"]) == cli.DONE
    assert neuface_ray.__version__ in capsys.readouterr().out


def test_an_unknown_command_is_wrong_usage(capsys):
    assert cli.main(["anotate"]) == cli.USAGE
    assert "there is no command 'anotate'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["annotate", "train", "evaluate", "synthesize", "report", "dataset"])
def test_help_teaches_and_starts_nothing(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert f"neuface {command}" in shown
    assert command == "dataset" or "exit codes: 0" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["annotate", "output=b"],
        ["annotate", "input=nowhere.mp4", "output=b"],
        ["annotate", "input=a", "output=b", "annotator.nmae=x"],
        ["train", "output=o"],
        ["evaluate", "evaluation=nothing", "output=o"],
        ["synthesize", "kind=film", "output=o"],
        ["report", "dataset=nowhere"],
        ["dataset", "info", "nowhere"],
    ],
)
def test_wrong_usage_is_exit_code_2_and_a_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == cli.USAGE
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert "Traceback" not in shown
    assert not list(tmp_path.iterdir())


def test_without_a_file_annotation_runs_neuface(capsys):
    with pytest.raises(SystemExit):
        cli.main(["annotate", "--help"])
    shown = capsys.readouterr().out
    assert "annotator.neuface.fit" in shown
    assert "annotator.glvd" not in shown


def test_jobs_are_the_same_commands():
    for name in ("annotate", "report", "train", "evaluate", "synthesize"):
        shown = subprocess.run([sys.executable, f"jobs/{name}.py", "--help"], capture_output=True, text=True, check=True).stdout
        assert f"usage: neuface {name}" in shown
