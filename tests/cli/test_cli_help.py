"""The options of every command against the contract, their help and their environment variables."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from explaineval._version import __version__
from explaineval.cli.app import app, main

RUN = (
    "[CONFIG.yaml] --task* --columns --model* --order* --style* --shots --verbosity* --interventions --kind "
    "--per-example --tagger --shots-from --shams --limit --tvd-samples --samples --seed --until-half-width --shard "
    "--temperature --max-tokens --param* --retry* --logprobs --mention --metric* --min-label-mass --interval "
    "--resamples --prompts --base-url --endpoint-name --api-key-env --allow-key* --transport --cache --price "
    "--max-connections --rpm --tpm --max-retries --timeout --patience --max-usd --spent --offline/--no-offline "
    "--batch/--no-batch --batch-poll --keep-unreadable/--no-keep-unreadable --batch-wait --engine --ray-address "
    "--workers --out --json"
)
CONTRACT = {
    "": "--version",
    "demo": "--sweep --weights --limit --transport --cache --out --table --json",
    "init": "[FILE] --model* --task* --base-url",
    "run": f"{RUN} --table",
    "watch": "RUN_DIR --once --json",
    "merge": "RUN_DIR... --out --unfinished --table --json",
    "plan": f"{RUN} --show-prompts --half-width --expect --pilot",
    "probe": "--model --base-url --endpoint-name --api-key-env --price --max-retries --timeout --max-usd "
    "--transport --cache --json",
    "score": "RUN_DIR --mention* --metric* --min-label-mass --resamples --columns --table --json",
    "compare": "RUN_DIR... --by --against --equivalent --impact-rate --primary --fail-if-lower --mention --seed --json",
    "breakdown": "RUN_DIR --by* --json",
    "report": "RUN_DIR... --out --plots --json",
    "explain": "[METRIC] --json",
    "notes": "RUN_DIR --json",
    "show": "RUN_DIR --example --list --task* --model* --only --mention --answers --cache --json",
    "validate": "--prompts --mention --task* --columns --limit --seed --against --json",
    "simulate": "RUN_DIR --predictor-model --predictor-base-url --predictor-api-key-env --predictor-price --limit "
    "--shuffled/--no-shuffled --seed --prompts --plan --max-usd --spent --offline/--no-offline "
    "--batch/--no-batch --batch-poll --batch-wait --transport --patience --cache --json",
    "judge": "RUN_DIR --judge-model* --judge-base-url --judge-api-key-env --judge-price --prompts --channel --plan "
    "--max-usd --spent --offline/--no-offline --batch/--no-batch --batch-poll --batch-wait --transport --patience "
    "--cache --json",
    "judge sheet": "RUN_DIR --n --seed --mention --judge --model --task --kind --order --style --shots --verbosity "
    "--out --json",
    "judge agree": "RUN_DIR SHEET.csv... --key --json",
    "interventions": "",
    "interventions build": "--task* --columns --limit --kind --per-example --seed --compat --null-edits --shots "
    "--tagger --prompts --editor-model --editor-base-url --editor-api-key-env --editor-price --judge-model "
    "--judge-base-url --judge-api-key-env --judge-price --keep-share --max-usd --offline/--no-offline --transport "
    "--patience --cache --out --force --json",
    "interventions show": "[F.jsonl] --task* --columns --limit --json",
    "cache": "",
    "cache stats": "--cache --price --json",
    "cache verify": "--cache --reask --model* --imported --run --base-url --endpoint-name --api-key-env --price "
    "--allow-key* --max-usd --transport --max-connections --rpm --tpm --max-retries --timeout --patience --json",
    "cache explain": "RUN_DIR|CONFIG.yaml --cache --limit --json",
    "cache export": "--cache --out --run* --model* --endpoint* --addresses --json",
    "cache import": "F... --cache --json",
    "cache prune": "--cache --model* --endpoint* --damaged --all --yes --price --json",
    "export": "RUN_DIR --out --format --rows --cache --addresses --json",
    "reproduce": "F.zip --out --json",
    "serve": "--config --data --host --port",
    "serve backup": "--data --out",
    "data": "",
    "data fetch": "TASK --dir --timeout",
}
"""The arguments and options of every command, written by hand; `*` follows what may be repeated."""


def commands(
    command: click.Command = app, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command and group with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            assert member is not None
            yield from commands(member, (*path, name))


ALL = dict(commands())


def spell(parameter: click.Parameter) -> str:
    """Return an argument's or option's name as CONTRACT writes it."""
    if isinstance(parameter, click.Argument):
        return parameter.metavar or str(parameter.name).upper()
    return "/".join([*parameter.opts, *parameter.secondary_opts]) + ("*" if parameter.multiple else "")


def single(command: click.Command) -> list[click.Option]:
    """Return the options that have one value, without `--help` and `--version`."""
    return [p for p in command.params if isinstance(p, click.Option) and not p.multiple and p.expose_value]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_shown(path: tuple[str, ...], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, on standard output, with the name of every option."""
    with pytest.raises(SystemExit) as caught:
        main([*path, flag])

    out, err = capsys.readouterr()
    assert (caught.value.code, err) == (0, "")
    assert out.startswith(" ".join(("Usage: explaineval", *path)))
    assert [name for p in ALL[path].params if isinstance(p, click.Option) for name in p.opts if name not in out] == []


@pytest.mark.parametrize("path", [[], ["cache"], ["interventions"]], ids=" ".join)
def test_without_a_command_the_help_is_printed(path: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As --help prints it, on standard error; exit code 2."""
    with pytest.raises(SystemExit):
        main([*path, "--help"])
    text, _ = capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(path)
    out, err = capsys.readouterr()

    assert (caught.value.code, out) == (2, "")
    assert err.split() == text.split()


@pytest.mark.parametrize("name", CONTRACT)
def test_a_command_has_the_contracts_options(name: str) -> None:
    """Every argument and option of the contract exists, and there are no others."""
    assert CONTRACT[name].split() == [spell(parameter) for parameter in ALL[tuple(name.split())].params]


def test_the_contract_has_every_command() -> None:
    """No command and no group is missing from the contract."""
    assert {tuple(name.split()) for name in CONTRACT} == set(ALL)


@pytest.mark.parametrize("path", [path for path in ALL if ALL[path].params], ids=" ".join)
def test_every_option_has_a_help_text(path: tuple[str, ...]) -> None:
    """The help of each option is a text of sentences; what its default is may follow."""
    texts = {p.opts[0]: str(p.help) for p in ALL[path].params if isinstance(p, click.Option)}
    bare = {name: text.partition("  [default:")[0] for name, text in texts.items()}

    assert [name for name, text in bare.items() if not text.endswith(".")] == []


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
    from explaineval.config import ClientConfig, RunConfig, read_duration

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
        if isinstance(default, float):
            assert read_duration(text) == default, name
        else:
            assert text.rstrip("/") == str(default), name
