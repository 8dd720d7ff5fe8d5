"""The command line: parse, wire, call, print. The only package that prints, and the only one that shows errors."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from explaineval._version import __version__
from explaineval.cli.output import echo, explain, show_error, silence
from explaineval.errors import ExplainevalError
from explaineval.secrets import SECRETS

Commands = Mapping[str, tuple[str, str, str]]
"""Command → (module of this package, attribute, one-line help). A module is imported only when its command is used."""

REPEATED = "explaineval.repeated"
"""Where a command's context keeps what is to be told of single-valued options that were given several values."""


class LazyGroup(click.Group):
    """A group over a table of commands."""

    def __init__(self, *arguments: Any, table: Commands, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module, attribute, _ = self.table[cmd_name]
        command: click.Command = getattr(import_module(f"explaineval.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in self.table.items()])


COMMANDS = {
    "demo": ("run", "demo", "Run a bundled task on a small embedded model: no network, no key."),
    "run": ("run", "run", "Ask models with and without interventions, then score: the main job."),
    "plan": ("plan", "plan_command", "Say what a run would ask and cost; send nothing."),
    "probe": ("probe", "probe", "Find out what an endpoint really does, by a few cheap requests."),
    "score": ("score", "score_command", "Compute the metrics of a run directory again, asking nothing."),
    "show": ("show", "show_command", "Show one example with all its trials: inputs, answers, explanations, matches."),
    "judge": ("judge", "judge_command", "Let a model judge which explanations mention a cue, beside the phrase list."),
    "interventions": ("interventions", "interventions", "Build intervention sets, and look at them."),
    "cache": ("cache", "cache", "Look at the stored answers, check them, pack them, share them."),
    "export": (
        "export",
        "export_command",
        "Bundle a run with its answers, so that others can compute it again.",
    ),
    "reproduce": ("export", "reproduce_command", "Compute a bundled run again, without network or key."),
    "data": ("data", "data", "Download datasets from their official homes."),
}


@click.group(
    cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="explaineval")
def app() -> None:
    """Measure whether a model's explanations are faithful: do they name what moved the answer?

    explaineval inserts a word into an input, asks the model before and after, and correlates "the answer changed"
    with "the explanation mentions the word" (phi-CCT; CCT where the endpoint gives logprobs). Every answer is
    stored and never bought twice.
    """


@app.result_callback()
@click.pass_context
def _tell_repeated(ctx: click.Context, code: int | None) -> int | None:
    """Say which options were given several values, unless the command has said it."""
    for line in ctx.meta.get(REPEATED, ()):
        echo(f"explaineval: {line}", err=True)
    return code


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: one sentence for any error, with its own exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    SECRETS.learn(os.environ)
    try:
        code = app.main(given, standalone_mode=False, prog_name="explaineval")
        sys.stdout.flush()
    except click.UsageError as exc:
        hint = f" (see {exc.ctx.command_path} --help)" if exc.ctx else ""
        code = _fail(2, exc.format_message().rstrip(".") + hint + ".", given)
    except click.ClickException as exc:
        code = _fail(2, exc.format_message(), given)
    except ExplainevalError as exc:
        code = _fail(exc.exit_code, str(exc), given)
    except (click.Abort, KeyboardInterrupt):
        code = _fail(130, "interrupted; run the same command again to go on.", given)
    except BrokenPipeError:
        silence(sys.stdout)
        code = 0
    except OSError as exc:  # a disk or a pipe, no fault of ours
        if exc.filename is None:
            silence(sys.stdout)
            echo(f"explaineval: {explain(exc)}", err=True)
            code = 2
        else:
            code = _fail(2, explain(exc), given)
    except Exception as exc:  # the outermost border: a fault of ours still gets one sentence
        if os.environ.get("EXPLAINEVAL_TRACEBACK"):
            echo(traceback.format_exc(), err=True)
        text = f"a fault of explaineval itself: {type(exc).__name__}: {exc}"
        code = _fail(1, f"{text} (EXPLAINEVAL_TRACEBACK=1 shows where; answers already paid for are kept).", given)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(code: int, message: str, given: Sequence[str]) -> int:
    if "--json" in given or os.environ.get("EXPLAINEVAL_JSON", "").lower() in {"1", "true", "t", "yes", "y", "on"}:
        try:
            show_error(code, message)
            sys.stdout.flush()
        except OSError:
            silence(sys.stdout)
        else:
            return code
    echo(f"explaineval: {message}", err=True)
    return code
