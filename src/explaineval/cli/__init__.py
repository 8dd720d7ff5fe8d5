"""The command line: read options, call one function below, print. The only package that prints."""

from __future__ import annotations

from explaineval.cli.app import main

__all__ = ["main"]
