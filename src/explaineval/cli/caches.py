"""`explaineval cache …`: the commands about stored answers, each in a module of its own."""

from __future__ import annotations

import click

from explaineval.cli.groups import LazyGroup

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


@click.group(cls=LazyGroup, table=COMMANDS)
def cache() -> None:
    """Look at the stored answers, check them, pack them, share them."""
