"""The commands: ``neuface annotate | report | train | evaluate | synthesize | dataset``.

A command reads ``[--config NAME] [key=value ...]``, calls the library, prints what came of it and returns an exit code that
scripts can rely on. ``jobs/*.py`` are the same commands as files, for ``ray job submit -- python jobs/annotate.py ...``.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

from neuface_ray import __version__
from neuface_ray.config import from_command_line
from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.screen import show, show_error

DONE, FAILED, USAGE, CRITERION_FAILED, INTERRUPTED = 0, 1, 2, 4, 130
Arguments = Sequence[str] | None
Schema = TypeVar("Schema")


def annotate(arguments: Arguments = None) -> int:
    """Annotate face videos and photographs.

        neuface annotate [--config NAME] input=PATH output=DIR [key=value ...]

    Without --config it runs NeuFace as the packaged file `neuface` says.
    Runs on the Ray cluster it finds itself in (`ray job submit -- python jobs/annotate.py ...`, RAY_ADDRESS, ray.address=...),
    else on this machine. Running the same command again continues.

    exit codes: 0 every segment is in the dataset (clips that the quality gate rejects included); 3 some segments are in
    quarantine; 2 wrong usage, configuration or input; 1 the run failed; 130 interrupted, what was committed is kept.
    """
    from neuface_ray.pipeline.annotate import run
    from neuface_ray.pipeline.config import AnnotateConfig

    def command() -> int:
        config = _configuration(AnnotateConfig, annotate, arguments, default="neuface")
        summary = run(config)
        show(summary.table())
        if config.report:
            _draw_report(summary.output, config.report_clips, config.head)
        show(summary.conclusion)
        return summary.exit_code

    return _exit_code(command, failed="the run failed", interrupted="interrupted before anything was started")


def _draw_report(dataset: str, clips: int, head: str) -> None:
    """Prints the paths of a run's pictures; the dataset stands whether or not they can be made."""
    from neuface_ray.visualization.report import ReportConfig, draw

    try:
        show(*(f"{'picture':<12} {path}" for path in draw(ReportConfig(dataset=dataset, clips=clips, head=head))))
    except NeufaceError as error:
        show(f"{'picture':<12} none: {error}")


def report(arguments: Arguments = None) -> int:
    """Look at a dataset: an overlay video for each of some clips, and a contact sheet of them all.

        neuface report dataset=DIR [choose=worst] [clips=6] [key=value ...]

    exit codes: 0 pictures made; 2 wrong usage or no such dataset; 1 no source could be read.
    """
    from neuface_ray.visualization.report import ReportConfig, draw

    def command() -> int:
        show(*draw(_configuration(ReportConfig, report, arguments)))
        return DONE

    return _exit_code(command, failed="no picture was made")


def train(arguments: Arguments = None) -> int:
    """Train a network on mesh datasets.

        neuface train --config NAME [data=[DIR,...]] output=DIR [key=value ...]

    Runs on the Ray cluster it finds itself in (`ray job submit -- python jobs/train.py ...`, RAY_ADDRESS, ray.address=...),
    else on this machine. Running the same command again continues from the last checkpoint.

    exit codes: 0 trained, the weights are in output/model.safetensors; 2 wrong usage, configuration or data; 1 the training
    failed; 130 interrupted.
    """
    from neuface_ray.training.config import TrainConfig
    from neuface_ray.training.run import run

    def command() -> int:
        show(run(_configuration(TrainConfig, train, arguments)).table())
        return DONE

    again = "run the same command again to continue"
    return _exit_code(command, failed=f"{again} from the last checkpoint", interrupted=f"interrupted; {again}")


def evaluate(arguments: Arguments = None) -> int:
    """Evaluate methods against truth and check the acceptance criteria.

        neuface evaluate --config NAME [output=DIR] [key=value ...]

    Prints the report's tables and one line for each criterion (`N1 PASS ...` or `N1 FAIL ...` with what was measured);
    report.md, report.json and the pictures go to output.

    exit codes: 0 every criterion holds; 4 the evaluation ran and a criterion fails; 2 wrong usage, configuration or input;
    1 the run failed; 130 interrupted.
    """
    from neuface_ray.evaluation.run import EvaluateConfig, run

    def command() -> int:
        config = _configuration(EvaluateConfig, evaluate, arguments)
        result = run(config)
        show(result.markdown(), *(criterion.line for criterion in result.criteria), f"report       {config.output}/report.md")
        return DONE if result.passed else CRITERION_FAILED

    return _exit_code(command, failed="the run failed")


def synthesize(arguments: Arguments = None) -> int:
    """Make synthetic faces or videos with exact truth.

        neuface synthesize --config NAME output=DIR [key=value ...]

    Runs on the Ray cluster it finds itself in (RAY_ADDRESS, ray.address=...), else on this machine. Running the same command
    again continues.

    exit codes: 0 all is there; 2 wrong usage or configuration; 1 the run failed; 130 interrupted, what was finished is kept.
    """
    from neuface_ray.pipeline.synthesize import SynthesizeConfig, run

    def command() -> int:
        show(run(_configuration(SynthesizeConfig, synthesize, arguments)).table())
        return DONE

    return _exit_code(command, failed="the run failed", interrupted="interrupted; what was finished is kept")


def dataset(arguments: Arguments = None) -> int:
    """Look after a dataset: info, verify, publish, delete."""
    from neuface_ray.dataset.__main__ import main as look_after

    return look_after(arguments, "neuface dataset")


COMMANDS: dict[str, Callable[[Arguments], int]] = {
    command.__name__: command for command in (annotate, report, train, evaluate, synthesize, dataset)
}


def main(arguments: Arguments = None) -> int:
    """The program ``neuface``: the first argument names the command, the others are its own."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    name, others = (args[0], args[1:]) if args else ("--help", [])
    if name in COMMANDS:
        return COMMANDS[name](others)
    if name == "--version":
        show(f"neuface-ray {__version__}")
        return DONE
    lines = [f"  {command:<12}{function.__doc__.splitlines()[0]}" for command, function in COMMANDS.items()]
    usage = "\n".join(["usage: neuface COMMAND [--help] [--config NAME] [key=value ...]", "", "commands:", *lines])
    if name in ("-h", "--help"):
        show(usage)
        return DONE
    show_error(f"{usage}\n\nerror: there is no command {name!r}")
    return USAGE


def _configuration(
    schema: type[Schema], command: Callable[[Arguments], int], arguments: Arguments, default: str | None = None
) -> Schema:
    """What the command was given; ``--help`` shows its docstring and the keys that go with what is chosen."""
    return from_command_line(schema, inspect.getdoc(command) or "", arguments, f"neuface {command.__name__}", default)


def _exit_code(command: Callable[[], int], failed: str, interrupted: str = "interrupted") -> int:
    """What ``command`` returns, or the code of the error that ended it. The one place where errors reach the screen, those that
    nobody expected included, whose traceback may hold what the user typed."""
    try:
        return command()
    except UsageError as error:
        show_error(f"error: {error}")
        return USAGE
    except NeufaceError as error:
        show_error(f"error: {error}\nexit {FAILED}: {failed}")
        return FAILED
    except Exception:
        show_error(f"{traceback.format_exc()}exit {FAILED}: {failed}")
        return FAILED
    except KeyboardInterrupt:
        show_error(f"exit {INTERRUPTED}: {interrupted}")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
