"""`explaineval cache …`: the commands about stored answers, each in a module of its own."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = {
    "stats": (
        "holdings",
        "stats_command",
        "Count the stored answers, per endpoint and model, with tokens and dollars.",
    ),
    "verify": ("verifications", "verify_command", "Check every page and every answer of a cache."),
    "explain": (
        "explanations",
        "explain_command",
        "Say why a request is a miss: the nearest stored one, and what differs.",
    ),
    "export": ("packs", "export_command", "Write answers into a pack, a file that others can import."),
    "import": ("packs", "import_command", "Lay the answers of packs into a cache; what is there stays."),
    "prune": ("prunings", "prune_command", "Delete answers, after saying what goes and what it cost."),
}
"""Command → (module, attribute, one-line help). A module is imported only when its command is used."""


class CacheGroup(click.Group):
    """Knows its commands by name, so that `--help` loads none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"explaineval.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=CacheGroup)
def cache() -> None:
    """Look at the stored answers, check them, pack them, share them."""
