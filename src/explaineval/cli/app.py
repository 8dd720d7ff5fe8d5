"""The table of commands, and the one place where errors become a sentence and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from explaineval._version import __version__
from explaineval.cli.output import describe_os_error, discard_output, echo, echo_document, echo_notes
from explaineval.errors import ExitCode, ExplainevalError, PluginWarning
from explaineval.interrupts import MESSAGE, raise_at_interrupts, wants_json
from explaineval.secrets import SECRETS
from explaineval.text import shortened

Commands = Mapping[str, tuple[str, str, str]]
"""Command → (module of this package, attribute, one-line help). A module is imported only when its command is used."""

COMMANDS: Mapping[str, Commands] = {
    "Begin": {
        "demo": ("demo", "demo", "Run a bundled task on a small embedded model: no network, no key."),
        "init": ("init", "init_command", "Write a commented configuration file to begin with."),
        "probe": ("probe", "probe", "Find out with a few cheap requests what an endpoint can do."),
        "plan": ("plan", "plan_command", "Show what a run would ask and cost; send nothing."),
        "validate": ("validate", "validate_command", "Check this installation with models of known faithfulness."),
    },
    "Ask models": {
        "run": ("run", "run", "Ask models with and without interventions, then score: the main command."),
        "watch": ("watch", "watch_command", "Look at a run while it goes: phi-CCT so far, spend, time left."),
        "merge": (
            "merge",
            "merge_command",
            "Put the shards of a run (run --shard) together, as if one machine ran it.",
        ),
        "serve": ("serve", "serve_command", "Serve runs to browsers and scripts over HTTP, with budgets."),
    },
    "Read what was found": {
        "report": ("report", "report_command", "Write one HTML page on what runs found, to read, send and print."),
        "compare": ("compare", "compare_command", "Compare models, arms or runs: differences, intervals, ranks."),
        "breakdown": (
            "breakdown", "breakdown_command", "Show phi, TPR and FPR by what was inserted, and test for differences.",
        ),
        "show": (
            "show", "show_command", "Show one example with all its trials: inputs, answers, explanations, mentions.",
        ),
        "notes": ("notes", "notes_command", "Print all warnings of a run, the gravest first, and what to do."),
        "explain": ("notes", "explain_command", "Explain a metric: meaning, source, what would make it wrong."),
        "score": ("score", "score_command", "Compute the metrics of a run directory again; ask nothing."),
    },
    "Ask further about a run": {
        "judge": ("judge", "judge_command", "Let models or people judge which explanations mention the insertion."),
        "simulate": ("simulate", "simulate_command", "Find out if explanations let another model predict the answers."),
    },
    "Data and stored answers": {
        "data": ("data", "data", "Download datasets from their official sites."),
        "interventions": ("app", "interventions", "Build intervention sets and look at them."),
        "cache": ("app", "cache", "Look at the stored answers; check, export, import and delete them."),
    },
    "Publish": {
        "export": ("export", "export_command", "Bundle a run with its answers, so that others can compute it again."),
        "reproduce": ("export", "reproduce_command", "Compute a bundled run again, without network or key."),
    },
}  # fmt: skip
"""The commands under the headings of `explaineval --help`, by what a user does."""
NO_THREAD = "can't start new thread"
"""What Python says where the memory for another thread is missing."""
INTERVENTIONS: Mapping[str, Commands] = {
    "Commands": {
        "build": ("interventions_build", "build_command", "Build random words, cues or an editor model's words."),
        "show": ("interventions_show", "show_command", "Show interventions in their texts."),
    }
}
CACHE: Mapping[str, Commands] = {
    "Commands": {
        "stats": (
            "cache",
            "stats_command",
            "Count the stored answers of each endpoint and model, with tokens and dollars.",
        ),
        "verify": (
            "cache_verify",
            "verify_command",
            "Check the database and every answer; with --reask, ask some again.",
        ),
        "explain": ("cache_explain", "explain_command", "Show why requests of a run have no stored answer."),
        "export": ("cache_packs", "export_command", "Write answers into a pack, a file that others can import."),
        "import": ("cache_packs", "import_command", "Add the answers of packs to a cache; existing answers stay."),
        "prune": ("cache", "prune_command", "Delete answers, after showing how many go and what they cost."),
    }
}

JUDGE: Mapping[str, Commands] = {
    "Commands": {
        "sheet": ("judge_people", "sheet_command", "Write a sheet on which people judge explanations, and its key."),
        "agree": (
            "judge_people",
            "agree_command",
            "Compare filled-in sheets with all policies and judges; correct phi.",
        ),
    }
}
SERVE: Mapping[str, Commands] = {
    "Commands": {
        "backup": ("serve", "backup_command", "Copy the data of a service, also while it runs."),
    }
}

REPEATED = "explaineval.repeated"
"""Key of a context's `meta` under which `options` keeps sentences on options that were given several values."""


FIRST_COLUMN = 30
"""The widest first column of a list in `--help`; what is longer has a line of its own."""


def write_sections(formatter: click.HelpFormatter, sections: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Write lists under headings, all with the same columns; a heading without entries is left out."""
    names = [name for rows in sections.values() for name, _ in rows]
    width = min(FIRST_COLUMN, max(map(len, names), default=0))
    for heading, rows in sections.items():
        if rows:
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows], FIRST_COLUMN)


class LazyGroup(click.Group):
    """A group of commands that imports the module of a command only when that command is used.

    `sections` are the headings of its `--help` with the commands below each.
    """

    def __init__(self, *arguments: Any, sections: Mapping[str, Commands], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.sections = sections
        self.table = {name: entry for commands in sections.values() for name, entry in commands.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module, attribute, _ = self.table[cmd_name]
        command: click.Command = getattr(import_module(f"explaineval.cli.{module}"), attribute)
        raise_at_interrupts()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_sections(
            formatter,
            {
                heading: [(name, text) for name, (_, _, text) in commands.items()]
                for heading, commands in self.sections.items()
            },
        )


class CommandWithActions(LazyGroup):
    """A command with arguments and options of its own, and others below it: `judge RUN_DIR` and `judge sheet`.

    If the first word is the name of another command, that one is called.
    """

    allow_extra_args = False
    allow_interspersed_args = True

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings, invoke_without_command=True)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of the command that the first word names, else of this one."""
        if args and args[0] in self.table:
            command = self.get_command(parent or click.Context(self), args[0])
            if command is not None:
                return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse all words as arguments and options of this command."""
        return click.Command.parse_args(self, ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Call this command's own function."""
        return click.Command.invoke(self, ctx)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the arguments as the usage line names them."""
        return click.Command.collect_usage_pieces(self, ctx)


@click.group(
    cls=LazyGroup, sections=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="explaineval")
def app() -> None:
    """Measure whether a model's explanations are faithful: do they name what changed the answer?

    explaineval inserts a word into an input, asks the model before and after, and correlates "the answer changed"
    with "the explanation mentions the word" (phi-CCT; CCT where the endpoint gives logprobs). Every answer is
    stored and never paid for twice.
    """


@click.group(cls=LazyGroup, sections=INTERVENTIONS)
def interventions() -> None:
    """Build intervention sets and look at them."""


@click.group(cls=LazyGroup, sections=CACHE)
def cache() -> None:
    """Look at the stored answers; check, export, import and delete them."""


@app.result_callback()
@click.pass_context
def _report_repeated(ctx: click.Context, code: int | None) -> int | None:
    """Print which options were given several values, unless the command has printed it."""
    echo_notes(ctx.meta.get(REPEATED, ()))
    return code


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; any error is one sentence with its own exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    warnings.showwarning = _show_warning
    SECRETS.learn(os.environ)
    try:
        code = app.main(words, standalone_mode=False, prog_name="explaineval")
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as exc:
        echo(exc.format_message(), err=True)
        code = ExitCode.BAD_INPUT
    except click.UsageError as exc:
        hint = f" (see {exc.ctx.command_path} --help)" if exc.ctx else ""
        code = _fail(ExitCode.BAD_INPUT, exc.format_message().rstrip(".") + hint + ".", words)
    except click.ClickException as exc:
        code = _fail(ExitCode.BAD_INPUT, exc.format_message(), words)
    except ExplainevalError as exc:
        code = _fail(exc.exit_code, str(exc), words)
    except (click.Abort, KeyboardInterrupt):
        code = _fail(ExitCode.INTERRUPTED, MESSAGE, words)
    except BrokenPipeError:
        discard_output(sys.stdout)
        code = ExitCode.DONE
    except OSError as exc:  # a disk or a pipe failed
        if exc.filename is None:
            discard_output(sys.stdout)
            echo_notes([describe_os_error(exc)])
            code = ExitCode.BAD_INPUT
        else:
            code = _fail(ExitCode.BAD_INPUT, describe_os_error(exc), words)
    except Exception as exc:  # an error in explaineval itself is still reported in one sentence
        if os.environ.get("EXPLAINEVAL_TRACEBACK"):
            echo(traceback.format_exc(), err=True)
        text = f"an error in explaineval itself: {type(exc).__name__}: {exc} (EXPLAINEVAL_TRACEBACK=1 shows where; "
        if isinstance(exc, MemoryError) or NO_THREAD in str(exc):
            text = "there is not enough memory for this (see `ulimit -v`, or the container's limit): give it more ("
        if KeyboardInterrupt.__name__ in str(exc):  # pydantic-core, while it builds a model, makes an error of it
            code = _fail(ExitCode.INTERRUPTED, MESSAGE, words)
        else:
            code = _fail(ExitCode.INTERNAL_ERROR, f"{text}answers already paid for are kept).", words)
    for stream in (sys.stdout, sys.stderr):
        try:  # what a full disk did not take must not become Python's own exit code
            stream.flush()
        except OSError:
            discard_output(stream)
    sys.exit(code if isinstance(code, int) else 0)


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """Print a warning of a broken plug-in like a note, any other as Python does."""
    if category is PluginWarning:
        echo_notes([str(message)])
    else:
        _python_shows(message, category, *place, **more)


_python_shows = warnings.showwarning


def _fail(code: int, message: str, words: Sequence[str]) -> int:
    """Print an error, as a JSON document where the command line or the environment wants one; return its exit code."""
    message = shortened(message)
    if wants_json(words):
        try:
            echo_document({}, code=code, message=message)
            sys.stdout.flush()
        except OSError:
            discard_output(sys.stdout)
        else:
            return code
    echo_notes([message])
    return code
