"""wsrec.config.click_options: a declaration is all that an option of the command line needs."""

from __future__ import annotations

from typing import Annotated

import click
import msgspec
import pytest
from click.testing import CliRunner

from wsrec.cli.main import main
from wsrec.config.click_options import click_options, settled, taken
from wsrec.feed.errors import ConfigError
from wsrec.options.option import Option, declared
from wsrec.options.record import SECTIONS
from wsrec.options.value_types import Duration, Flag, Number


class Toy(msgspec.Struct, frozen=True, kw_only=True):
    """Three options."""

    nap: Annotated[float, Option("How long to `sleep`.", Duration(), short="n")] = 90.0
    max_turns: Annotated[int | None, Option("Turns.", Number(1), default="as many as it takes")] = None
    awake: Annotated[bool, Option("Do not sleep.", Flag(), excludes="nap")] = False


@click.command(context_settings={"auto_envvar_prefix": "TOY"})
@click_options(declared(Toy))
def toy(**given: object) -> None:
    """Print what was taken."""
    try:
        click.echo(taken(Toy, settled(declared(Toy), given)))
    except ConfigError as error:
        click.echo(error)


def run(*words: str, environment: dict[str, str] | None = None, defaults: dict[str, object] | None = None) -> str:
    return CliRunner().invoke(toy, [*words], env=environment, default_map=defaults).output.strip()


class TestDeclaration:
    def test_gives_name_help_and_default(self):
        text = " ".join(run("--help").split())
        assert "-n, --nap DURATION How long to sleep. [default: 90s]" in text
        assert "--max-turns INTEGER RANGE Turns. [default: as many as it takes]" in text

    def test_gives_values_and_complaints(self):
        assert run("--max-turns", "3") == "Toy(nap=90.0, max_turns=3, awake=False)"
        assert "found 'x', expected 30s, 10m" in run("--nap", "x")

    def test_the_command_line_goes_before_the_environment_and_that_before_a_run_config(self):
        environment, defaults = {"TOY_NAP": "2s", "TOY_MAX_TURNS": "2"}, {"nap": 3.0, "max_turns": 3}
        assert run("-n1s", environment=environment, defaults=defaults) == "Toy(nap=1.0, max_turns=2, awake=False)"
        assert run(defaults=defaults) == "Toy(nap=3.0, max_turns=3, awake=False)"


class TestConflicts:
    def test_two_of_the_same_source_are_an_error(self):
        assert run("--nap", "1s", "--awake") == "--awake: found it beside --nap, which excludes it: give one"
        both = run(environment={"TOY_NAP": "1s", "TOY_AWAKE": "1"})
        assert both == "TOY_AWAKE: found it beside TOY_NAP, which excludes it: give one"

    @pytest.mark.parametrize(
        ("awake", "nap"),
        [
            ({"words": ["--awake"]}, {"environment": {"TOY_NAP": "1s"}}),
            ({"words": ["--awake"]}, {"defaults": {"nap": 1.0}}),
            ({"environment": {"TOY_AWAKE": "1"}}, {"defaults": {"nap": 1.0}}),
            ({"words": ["--awake"]}, {}),
        ],
    )
    def test_the_source_of_higher_precedence_wins(self, awake, nap):
        merged = {**awake, **nap}
        assert run(*merged.pop("words", ()), **merged) == "Toy(nap=90.0, max_turns=None, awake=True)"

    @pytest.mark.parametrize(
        ("nap", "awake"),
        [
            ({"words": ["-n1s"]}, {"environment": {"TOY_AWAKE": "1"}}),
            ({"words": ["-n1s"]}, {"defaults": {"awake": True}}),
            ({"environment": {"TOY_NAP": "1s"}}, {"defaults": {"awake": True}}),
        ],
    )
    def test_also_against_a_flag(self, nap, awake):
        merged = {**nap, **awake}
        assert run(*merged.pop("words", ()), **merged) == "Toy(nap=1.0, max_turns=None, awake=False)"


@pytest.mark.parametrize("each", declared(*SECTIONS), ids=lambda each: each.field)
def test_every_option_of_record_has_its_variable(each):
    """Named after the option: WSREC_RECORD_CPU for --cpu."""
    record = main.get_command(click.Context(main), "record")
    assert record is not None
    (option,) = (option for option in record.params if f"--{each.key}" in option.opts)
    context = record.context_class(record, info_name="record", auto_envvar_prefix="WSREC_RECORD")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(f"WSREC_RECORD_{each.field.upper()}", "7")
        assert option.resolve_envvar_value(context) == "7"
