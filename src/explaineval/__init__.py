"""Faithfulness of model explanations, measured through an API (phi-CCT and CCT)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explaineval._version import __version__

__all__ = ["Run", "__version__", "load"]

if TYPE_CHECKING:
    from explaineval.reporting.frames import Run, load


def __getattr__(name: str) -> Any:
    """`explaineval.load` and `explaineval.Run` come from pandas' side of the house, loaded when first used."""
    if name in ("load", "Run"):
        from explaineval.reporting import frames

        return getattr(frames, name)
    raise AttributeError(f"module 'explaineval' has no attribute {name!r}")
