"""Help and variables of every command."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from explaineval._version import __version__
from explaineval.cli.app import app, main


def commands(
    command: click.Command = app, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and group with its words."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, (*path, name))


ALL = dict(commands())


def single(command: click.Command) -> list[click.Option]:
    """The options that have one value and are no `--help` or `--version`."""
    return [p for p in command.params if isinstance(p, click.Option) and not p.multiple and p.expose_value]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_shown(path: tuple[str, ...], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, on standard output, with every option by name."""
    with pytest.raises(SystemExit) as caught:
        main([*path, flag])

    out, err = capsys.readouterr()
    assert (caught.value.code, err) == (0, "")
    assert out.startswith(" ".join(("Usage: explaineval", *path)))
    assert [name for p in ALL[path].params if isinstance(p, click.Option) for name in p.opts if name not in out] == []


def test_the_contracts_commands_are_there() -> None:
    """Every command of the first release."""
    words = ("demo", "run", "score", "interventions build", "interventions show", "cache stats", "data fetch")
    expected = {tuple(text.split()) for text in words}

    assert expected <= set(ALL)


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` names the program and its version."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])

    assert caught.value.code == 0
    assert f"explaineval, version {__version__}" == capsys.readouterr().out.strip()


@pytest.mark.parametrize("path", [path for path in ALL if single(ALL[path])], ids=" ".join)
def test_every_single_valued_option_has_its_variable(path: tuple[str, ...]) -> None:
    """One name for all commands: EXPLAINEVAL_ and the option's own, in capitals."""
    named = {p.opts[0]: p.envvar for p in single(ALL[path])}

    assert {name: "EXPLAINEVAL_" + name.lstrip("-").upper().replace("-", "_") for name in named} == named


def test_defaults_that_help_tells_are_true() -> None:
    """What `run --help` says of a default is the default."""
    from explaineval.config import ClientConfig, RunConfig

    fields = {**RunConfig.model_fields, **ClientConfig.model_fields}
    told = {
        p.name: str(p.help).partition("[default: ")[2].rstrip("]")
        for p in ALL["run",].params
        if isinstance(p, click.Option)
    }
    checked = {
        name: text for name, text in told.items() if text and name in fields and fields[name].default is not None
    }

    assert len(checked) >= 9
    for name, text in checked.items():
        default = fields[name].default
        assert text.rstrip("/") == (f"{default:g}" if isinstance(default, float) else str(default)), name
