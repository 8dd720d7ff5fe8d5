"""The command line: parse, call, print. The only package that prints."""

from __future__ import annotations

from explaineval.cli.app import main

__all__ = ["main"]
