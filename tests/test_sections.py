"""Sections that a key chooses: what a file and the command line may say, what the help shows, and what Python sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from neuface_ray.config import describe, from_command_line, keys, load
from neuface_ray.errors import UsageError
from neuface_ray.sections import REQUIRED, Entry, as_mapping, chosen, fill_chosen


@dataclass
class Adam:
    """An inner section."""

    lr: float = 0.1
    """Step size."""


@dataclass
class Fit:
    """A way."""

    steps: int = 10
    """Number of steps."""
    adam: Adam = field(default_factory=Adam)


@dataclass
class Net:
    """Another way."""

    weights: str | None = None
    """File."""


HERE = __name__
WAYS = {"fit": Entry(f"{HERE}:Fit", f"{HERE}:Fit", "fits"), "net": Entry(f"{HERE}:Net", f"{HERE}:Net", "asks a network")}


@dataclass
class Way:
    """What is chosen by one name."""

    name: str = "fit"
    """The way."""
    device: str = "auto"
    """Where."""
    settings: Any = field(default=None, metadata=chosen(by="name", among=lambda: WAYS))

    def __post_init__(self) -> None:
        fill_chosen(self)


@dataclass
class Job:
    """A job with one way, and any number of others."""

    input: str = REQUIRED
    """What to read."""
    way: Way = field(default_factory=Way)
    others: list[str] = field(default_factory=list)
    """Ways to compare with."""
    compared: Any = field(default=None, metadata=chosen(by="others", among=lambda: WAYS))

    def __post_init__(self) -> None:
        fill_chosen(self)


@dataclass
class Experiment:
    """Choices inside a choice, the outer of which has no default."""

    what: str = REQUIRED
    """Which experiment."""
    settings: Any = field(default=None, metadata=chosen(by="what", among=lambda: EXPERIMENTS))

    def __post_init__(self) -> None:
        fill_chosen(self)


EXPERIMENTS = {"job": Entry(f"{HERE}:Job", f"{HERE}:Job", "a job"), "net": Entry(f"{HERE}:Net", f"{HERE}:Net", "a network")}


def names(schema: type, *overrides: str) -> list[str]:
    return [key.name for key in keys(schema, None, overrides)]


def test_python_gives_the_settings_or_takes_their_defaults():
    assert Way().settings == Fit()
    assert Way("net").settings == Net()
    assert Way("net", settings=Net("a")).settings.weights == "a"
    assert Job("a", others=["net", "fit"], compared={"fit": Fit(3)}).compared == {"net": Net(), "fit": Fit(3)}
    assert Experiment().settings is None
    with pytest.raises(UsageError, match=r"Way: name='nett' does not exist; choose from fit, net"):
        Way("nett")
    with pytest.raises(UsageError, match="name='net' takes Net, got Fit"):
        Way("net", settings=Fit())


def test_only_what_is_chosen_has_keys():
    assert names(Job) == ["input", "way.name", "way.device", "way.fit.steps", "way.fit.adam.lr", "others"]
    assert names(Job, "way.name=net", "others=[fit]") == [
        "input",
        "way.name",
        "way.device",
        "way.net.weights",
        "others",
        "fit.steps",
        "fit.adam.lr",
    ]
    assert names(Experiment) == ["what"]
    assert names(Experiment, "what=job", "job.way.name=net")[-2:] == ["job.way.net.weights", "job.others"]


def test_the_command_line_chooses_before_the_file_and_the_file_before_the_default(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text(
        "input: a\nway:\n  name: net\n  net:\n    weights: ${input}.w\n  fit:\n    steps: 7\nothers: [fit]\nfit:\n  steps: 3\n"
    )
    assert load(Job, file) == Job("a", Way("net", settings=Net("a.w")), ["fit"], {"fit": Fit(3)})
    assert load(Job, file, ["way.name=fit", "way.fit.adam.lr=1"]) == Job(
        "a", Way("fit", settings=Fit(7, Adam(1.0))), ["fit"], {"fit": Fit(3)}
    )
    assert load(Job, None, ["input=a"]).way.settings == Fit()


def test_a_file_may_say_what_is_not_chosen_but_not_wrongly(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("input: a\nway:\n  name: fit\n  net:\n    weights: w\nnet:\n  weights: v\n")
    assert load(Job, file) == Job("a")
    file.write_text("input: a\nway:\n  net:\n    wights: w\n")
    with pytest.raises(UsageError, match=r"job\.yaml: unknown key 'way\.net\.wights'; did you mean 'way\.net\.weights'"):
        load(Job, file)
    file.write_text("input: a\nway:\n  name: net\n  fit:\n    adam:\n      lr: much\n")
    with pytest.raises(UsageError, match=r"job\.yaml: way\.fit\.adam\.lr must be float, got 'much'"):
        load(Job, file)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["way.net.weights=a"], "way.net.weights is a setting of way.name=net, but way.name is fit"),
        (["way.name=net", "way.fit.steps=2"], "way.fit.steps is a setting of way.name=fit, but way.name is net"),
        (["way.net.wights=a"], "unknown key 'way.net.wights'; did you mean 'way.net.weights'"),
        (["way.wights=a"], "unknown key 'way.wights'; did you mean 'way.net.weights'"),
        (["fit.steps=2"], "fit.steps is a setting of others=fit, but others is not set"),
        (["way.name=nett"], "way.name='nett' does not exist; choose from fit, net"),
        (["others=[net,nett]"], "others='nett' does not exist"),
        (["others=net"], "others must be list"),
        (["way.net=1"], "way.net is a section; set one of its keys: way.net.weights"),
    ],
)
def test_mistakes_on_the_command_line_are_explained(overrides, message):
    with pytest.raises(UsageError) as refusal:
        load(Job, None, ["input=a", *overrides])
    assert message in str(refusal.value)


def test_a_choice_without_a_default_must_be_made():
    with pytest.raises(UsageError, match="not set: what; add what=VALUE"):
        load(Experiment)
    with pytest.raises(UsageError, match=r"net\.weights is a setting of what=net, but what is not set"):
        load(Experiment, None, ["net.weights=a"])
    assert load(Experiment, None, ["what=net", "net.weights=a"]) == Experiment("net", Net("a"))


def test_mappings_have_the_names_of_files():
    job = Job("a", Way("net", settings=Net("w")), ["fit"])
    assert as_mapping(job) == {
        "input": "a",
        "way": {"name": "net", "device": "auto", "net": {"weights": "w"}},
        "others": ["fit"],
        "fit": {"steps": 10, "adam": {"lr": 0.1}},
    }
    assert as_mapping(Experiment()) == {"what": REQUIRED}


def test_a_name_that_another_key_has_cannot_be_chosen():
    @dataclass
    class Clash:
        """Its ways include one called as a key."""

        name: str = "device"
        """The way."""
        device: str = "auto"
        """Where."""
        settings: Any = field(default=None, metadata=chosen(by="name", among=lambda: {"device": WAYS["net"]}))

        def __post_init__(self) -> None:
            fill_chosen(self)

    with pytest.raises(UsageError, match="device: what is chosen may not be called as another key is"):
        load(Clash)


def shown(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        from_command_line(Job, "What it does.", arguments)
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_shows_the_keys_of_what_the_arguments_choose(capsys, tmp_path):
    assert "way.fit.steps: int = 10\n    Number of steps." in shown(capsys, "--help")
    text = shown(capsys, "--help", "way.name=net")
    assert "way.net.weights" in text
    assert "way.fit" not in text
    assert "    - fit: fits\n    * net: asks a network" in text
    file = tmp_path / "job.yaml"
    file.write_text("way:\n  name: net\n")
    assert "way.net.weights" in shown(capsys, "--config", str(file), "-h")
    assert "way.fit.steps" in shown(capsys, "--config", str(file), "-h", "way.name=fit")


def test_help_all_shows_every_key_once_in_groups(capsys):
    lines = shown(capsys, "--help-all").splitlines()
    for name in ("input", "way.device", "way.fit.adam.lr", "way.net.weights", "fit.steps", "net.weights"):
        assert sum(line.startswith(f"{name}: ") for line in lines) == 1, name
    group = lines.index("with way.name=net (asks a network):")
    assert lines[group + 2].startswith("way.net.weights: ")


def test_descriptions_do_not_import_what_is_not_chosen():
    assert "weights" not in describe(Way)
